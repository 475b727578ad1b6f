"""Edits inside boxes of an image of any size, by networks that see one square.

A window, a square part of the image around the boxes, is cut out and resized; what comes back is
laid into the boxes. Everything else keeps its pixels, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.experts.base import PixelBox

Corners = tuple[float, float, float, float]

_CELL = 8  # pixels of the network's square that one latent pixel stands for
_HAIR = 1e-6  # an edge this close to a grid line is on it, in spite of rounding


@dataclass(frozen=True)
class Window:
    """A square in whole pixels of the image; it may reach beyond the image's edges."""

    left: int
    top: int
    side: int

    def cut(self, image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
        """Return the part as (size, size, 3) uint8; beyond the edge its last pixels go on."""
        height, width = image.shape[:2]
        rows = np.clip(np.arange(self.top, self.top + self.side), 0, height - 1)
        columns = np.clip(np.arange(self.left, self.left + self.side), 0, width - 1)
        return _resized(image[rows[:, None], columns[None, :]], size)

    def cells(self, box: PixelBox, size: int) -> Corners:
        """Return a box as fractions of the window, grown to whole latent pixels, at least one."""
        count = max(size // _CELL, 1)
        left, right = _snapped(box.left - self.left, box.right - self.left, self.side, count)
        top, bottom = _snapped(box.top - self.top, box.bottom - self.top, self.side, count)
        return left, top, right, bottom

    def mask(self, boxes: Sequence[PixelBox], size: int) -> NDArray[np.uint8]:
        """Return (size, size) uint8 with 255 in the boxes, whole latent pixels at least."""
        mask = np.zeros((size, size), np.uint8)
        for box in boxes:
            left, top, right, bottom = (round(edge * size) for edge in self.cells(box, size))
            mask[top:bottom, left:right] = 255
        return mask

    def paste(
        self, image: NDArray[np.uint8], made: NDArray[np.uint8], weight: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """Return the image with `made`, (size, size, 3), laid over it by `weight`, (height, width).

        Where the weight is 0 the image's own pixels stay.
        """
        height, width = image.shape[:2]
        left, top = max(self.left, 0), max(self.top, 0)
        right, bottom = min(self.left + self.side, width), min(self.top + self.side, height)
        here = np.s_[top:bottom, left:right]
        part = _resized(made, self.side)[
            top - self.top : bottom - self.top, left - self.left : right - self.left
        ]
        alpha = weight[here][..., None]
        mixed = np.rint(image[here] * (1 - alpha) + part * alpha).clip(0, 255).astype(np.uint8)
        result = image.copy()
        result[here] = np.where(alpha > 0, mixed, image[here])
        return result


def window_around(
    boxes: Sequence[PixelBox], height: int, width: int, context: float, least: int
) -> Window:
    """Return a window that holds all boxes of an image.

    It is `context` times as large as what the boxes cover, `least` pixels at least, and inside the
    image wherever such a square fits into it.
    """
    left, top = min(b.left for b in boxes), min(b.top for b in boxes)
    right, bottom = max(b.right for b in boxes), max(b.bottom for b in boxes)
    covered = max(math.ceil(right) - math.floor(left), math.ceil(bottom) - math.floor(top), 1)
    inside = min(height, width)
    side = max(covered, min(max(math.ceil(covered * context), least), inside))
    return Window(_start(left, right, side, width), _start(top, bottom, side, height), side)


def feathered(
    boxes: Sequence[PixelBox], height: int, width: int, feather: int
) -> NDArray[np.float32]:
    """Return the weight of an edit, (height, width) float32: 1 in the boxes, 0 far from them.

    It falls linearly and is 0 beyond `feather` pixels; a pixel that a box touches belongs to it.
    """
    outside = np.ones((height, width), np.uint8)
    for box in boxes:
        outside[
            math.floor(box.top + _HAIR) : math.ceil(box.bottom - _HAIR),
            math.floor(box.left + _HAIR) : math.ceil(box.right - _HAIR),
        ] = 0
    distance = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    weight = np.where(distance > feather, 0.0, 1 - distance / (feather + 1))
    return weight.astype(np.float32)


def _start(low: float, high: float, side: int, length: int) -> int:
    """Where a window of this side begins: centred on [low, high], inside [0, length] if it fits."""
    if side >= length:
        return -((side - length) // 2)
    return int(np.clip(round((low + high - side) / 2), 0, length - side))


def _snapped(low: float, high: float, side: int, count: int) -> tuple[float, float]:
    first = min(max(math.floor(low / side * count + _HAIR), 0), count - 1)
    last = max(min(math.ceil(high / side * count - _HAIR), count), first + 1)
    return _grid_line(first, count), _grid_line(last, count)


def _grid_line(index: int, count: int) -> float:
    """The fraction that pipelines, which multiply by `count` and round down, take to `index`."""
    line = index / count
    return line if int(line * count) == index else math.nextafter(line, 1.0)


def _resized(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    if image.shape[:2] == (size, size):
        return np.ascontiguousarray(image)
    smaller = size < image.shape[0]
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (size, size), interpolation=how), np.uint8)
