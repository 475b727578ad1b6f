"""Video segmentation on the robot itself: the mask network, carried along by optical flow.

The flow is DIS (Kroeger et al., 2016): classical, nothing learnt. What is out of sight for longer
than a frame is lost; for videos with occlusions use SAM 2.1.
"""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.cancellation import Cancel, check, never
from unifiedmllm_ros.errors import ConfigError, ImageError
from unifiedmllm_ros.experts.base import (
    OnProgress,
    PixelBox,
    Progress,
    Provenance,
    Request,
    VideoSegmentationResult,
    needed_image,
    unheard,
)
from unifiedmllm_ros.experts.segmentation import MaskNetwork
from unifiedmllm_ros.experts.torch_masks import windowed
from unifiedmllm_ros.masks import Mask

# A new mask is taken only where it is the thing that was followed: their overlap (IoU) is at least
_SAME = 0.5


class FlowVideo:
    """The mask network on the first frame, its masks moved by optical flow, and now and then anew.

    weights: of the mask network. refresh: frames between two looks of the mask network, 0 for
    none after the first. size: the longer side, in pixels, at which flow is computed.
    threads: CPU threads of the mask network.
    """

    def __init__(
        self,
        name: str,
        weights: Path | None,
        refresh: int = 5,
        size: int = 320,
        threads: int = 2,
    ) -> None:
        if refresh < 0 or size < 32:
            raise ConfigError(
                f'expert {name!r}: refresh {refresh} must not be negative, size {size} at least 32'
            )
        self.name = name
        self._options = {'refresh': refresh, 'size': size, 'threads': threads}
        self._network = MaskNetwork(name, weights, threads)

    def load(self) -> None:
        """Read the weights. Raises ModelFileError where they are not what they should be."""
        self._network.load()

    def unload(self) -> None:
        """Drop the network."""
        self._network.unload()

    def run(
        self, request: Request, progress: OnProgress, cancel: Cancel
    ) -> VideoSegmentationResult:
        """Follow the boxes of `request.image` through `request.frames`."""
        start = time.perf_counter()
        image = needed_image(request, self.name)
        progress(Progress('segment', 0.0))
        first = self._network.run(request, unheard, cancel)
        masks, frames = first.masks, [first.masks]
        for index, following in enumerate(request.frames, start=1):
            check(cancel, f'expert {self.name}')
            progress(Progress('segment', index / (1 + len(request.frames))))
            masks = self._next(masks, image, following, index)
            frames.append(masks)
            image = following
        progress(Progress('segment', 1.0))
        provenance = Provenance(
            self.name,
            'onnxruntime, classical flow',
            first.provenance.weights,
            request.seed,
            dict(self._options),
            (time.perf_counter() - start) * 1000,
        )
        return VideoSegmentationResult(provenance, tuple(frames))

    def _next(
        self,
        masks: tuple[Mask, ...],
        before: NDArray[np.uint8],
        now: NDArray[np.uint8],
        index: int,
    ) -> tuple[Mask, ...]:
        if before.shape != now.shape:
            raise ImageError(
                f'frame {index} is {now.shape} and the one before {before.shape}: the frames of a '
                'video have one size'
            )
        origin = origins(before, now, self._options['size'])
        places = [PixelBox(one.phrase, one.box, 0, 0, now.shape[1], now.shape[0]) for one in masks]
        moved = [
            windowed(_moved(mask, origin), place) for mask, place in zip(masks, places, strict=True)
        ]
        refresh = self._options['refresh']
        if refresh and index % refresh == 0:
            return tuple(self._seen_anew(mask, now) for mask in moved)
        return tuple(moved)

    def _seen_anew(self, mask: Mask, image: NDArray[np.uint8]) -> Mask:
        if not mask.area:
            return mask
        height, width = mask.pixels.shape
        right, bottom = float(mask.left + width), float(mask.top + height)
        box = PixelBox(mask.phrase, mask.box, float(mask.left), float(mask.top), right, bottom)
        request = Request('seg', image=image, boxes=(box,))
        (fresh,) = self._network.run(request, unheard, never).masks
        return fresh if _overlap(mask, fresh, image.shape[:2]) >= _SAME else mask


def origins(before: NDArray[np.uint8], now: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """Return where each pixel of `now` was in `before`, (height, width, 2) of x and y in pixels.

    Both images (height, width, 3) uint8 RGB; size: the longer side at which flow is computed.
    """
    height, width = now.shape[:2]
    scale = min(1.0, size / max(height, width))
    small = (max(16, round(width * scale)), max(16, round(height * scale)))
    grey = [
        cv2.resize(cv2.cvtColor(one, cv2.COLOR_RGB2GRAY), small, interpolation=cv2.INTER_AREA)
        for one in (now, before)
    ]
    start = np.zeros((small[1], small[0], 2), np.float32)
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found = dis.calc(grey[0], grey[1], start)
    flow = cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    x = columns + flow[..., 0] * (width / small[0])
    y = rows + flow[..., 1] * (height / small[1])
    return np.stack((x, y), axis=-1)


def _moved(mask: Mask, origin: NDArray[np.float32]) -> NDArray[np.bool_]:
    height, width = origin.shape[:2]
    shares = mask.full(height, width).astype(np.float32)
    x, y = np.ascontiguousarray(origin[..., 0]), np.ascontiguousarray(origin[..., 1])
    moved = cv2.remap(shares, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(moved > 0.5)


def _overlap(one: Mask, other: Mask, shape: tuple[int, ...]) -> float:
    first, second = one.full(shape[0], shape[1]), other.full(shape[0], shape[1])
    union = np.count_nonzero(first | second)
    return float(np.count_nonzero(first & second)) / union if union else 0.0
