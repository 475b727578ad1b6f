"""Crops around boxes: what a box-prompted mask network sees, and the way back to the image.

A crop is wider than its box by a quarter of the box's size on every side, with the box marked in a
fourth channel; so a mask may reach slightly beyond its box. Training cuts its crops here too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.experts.base import PixelBox
from unifiedmllm_ros.masks import Mask

CROP = 96
MARGIN = 0.25

Edges = tuple[float, float, float, float]


@dataclass(frozen=True)
class CropWindow:
    """The part of the image that a crop shows, in pixels; it may reach beyond the image."""

    left: float
    top: float
    width: float
    height: float

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(2, 3) affine map from pixel centres of the crop to those of the image."""
        x, y = self.width / CROP, self.height / CROP
        return np.array([[x, 0.0, self.left + 0.5 * x - 0.5], [0.0, y, self.top + 0.5 * y - 0.5]])

    def inside(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return (left, top, right, bottom) of the whole pixels it touches in such an image."""
        left = min(max(math.floor(self.left), 0), width - 1)
        top = min(max(math.floor(self.top), 0), height - 1)
        right = max(min(math.ceil(self.left + self.width), width), left + 1)
        bottom = max(min(math.ceil(self.top + self.height), height), top + 1)
        return left, top, right, bottom


def crop_window(box: Edges, margin: float = MARGIN) -> CropWindow:
    """Return the window of a box (left, top, right, bottom) in pixels."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    return CropWindow(
        left - margin * width,
        top - margin * height,
        width * (1 + 2 * margin),
        height * (1 + 2 * margin),
    )


def crop_box(image: NDArray[np.uint8], box: Edges) -> NDArray[np.float32]:
    """Cut the crop of a box out of an RGB image.

    Returns (4, 96, 96) float32: RGB in [0, 1] and 1 inside the box. Beyond the image's edge its
    last pixels go on. A window much larger than the crop is averaged down, not sampled.
    """
    window = crop_window(box)
    left, top, right, bottom = window.inside(*image.shape[:2])
    part = image[top:bottom, left:right]
    shrink = (max(1, int(window.width / CROP)), max(1, int(window.height / CROP)))
    if max(shrink) > 1:
        size = tuple(max(1, round(n / k)) for n, k in zip(part.shape[1::-1], shrink, strict=True))
        part = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
    scale = np.array([part.shape[1] / (right - left), part.shape[0] / (bottom - top)])
    matrix = window.matrix
    # The same map, between pixel centres of the crop and those of the cut and shrunk part.
    matrix[:, 2] = (matrix[:, 2] + 0.5 - (left, top)) * scale - 0.5
    matrix[:, :2] *= scale[:, None]
    crop = np.empty((4, CROP, CROP), np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    pixels = cv2.warpAffine(
        part, matrix, (CROP, CROP), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    crop[:3] = pixels.transpose(2, 0, 1)
    crop[:3] /= 255.0
    crop[3] = _BOX_INDICATOR
    return crop


def _box_indicator() -> NDArray[np.float32]:
    """The box in its crop: always at the same place, for the margin is a share of the box."""
    edge = MARGIN / (1 + 2 * MARGIN) * CROP
    centres = np.arange(CROP) + 0.5
    inside = (centres > edge) & (centres < CROP - edge)
    return np.outer(inside, inside).astype(np.float32)


_BOX_INDICATOR = _box_indicator()


def paste_logits(logits: NDArray[np.float32], box: PixelBox, height: int, width: int) -> Mask:
    """Turn the (96, 96) logits of a box's crop into a mask in an image of this size."""
    window = crop_window(box.edges)
    left, top, right, bottom = window.inside(height, width)
    matrix = window.matrix - ((0.0, 0.0, left), (0.0, 0.0, top))
    size = (right - left, bottom - top)
    flags = cv2.INTER_LINEAR
    warped = cv2.warpAffine(
        logits, matrix, size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=-1.0
    )
    return Mask(box.phrase, box.box, left, top, warped > 0)
