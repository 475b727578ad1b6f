"""Segmentation without a trained model: GrabCut, the classical fallback."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.cancellation import Cancel, check
from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.experts.base import (
    OnProgress,
    PixelBox,
    Progress,
    Provenance,
    Request,
    SegmentationResult,
    needed_image,
)
from unifiedmllm_ros.experts.crops import crop_window
from unifiedmllm_ros.masks import Mask


class GrabCut:
    """Segmentation without a trained model, by colour (Rother et al., 2004): a classical fallback.

    iterations: of the cut; size: the longer side, in pixels, to which large windows are shrunk.
    """

    def __init__(
        self, name: str, weights: Path | None = None, iterations: int = 3, size: int = 192
    ) -> None:
        if weights is not None:
            raise ConfigError(f'expert {name!r} has no weights: remove {weights} in experts.yaml')
        if iterations < 1 or size < 16:
            raise ConfigError(
                f'expert {name!r}: iterations {iterations} must be at least 1, size {size} at '
                'least 16'
            )
        self.name = name
        self._iterations = iterations
        self._size = size

    def load(self) -> None:
        """There is nothing to load."""

    def unload(self) -> None:
        """There is nothing to unload."""

    def run(self, request: Request, progress: OnProgress, cancel: Cancel) -> SegmentationResult:
        """Segment the boxes of the request one after the other."""
        start = time.perf_counter()
        image = needed_image(request, self.name)
        masks: list[Mask] = []
        for index, box in enumerate(request.boxes):
            check(cancel, f'expert {self.name}')
            progress(Progress('segment', index / len(request.boxes)))
            cv2.setRNGSeed(request.seed)
            masks.append(self._segment(image, box))
        progress(Progress('segment', 1.0))
        provenance = Provenance(
            self.name,
            'classical',
            '',
            request.seed,
            {'iterations': self._iterations, 'size': self._size},
            (time.perf_counter() - start) * 1000,
        )
        return SegmentationResult(provenance, tuple(masks))

    def _segment(self, image: NDArray[np.uint8], box: PixelBox) -> Mask:
        left, top, right, bottom = crop_window(box.edges).inside(*image.shape[:2])
        part = image[top:bottom, left:right]
        height, width = part.shape[:2]
        scale = min(1.0, self._size / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
        x, y = small.shape[1] / width, small.shape[0] / height
        rows = slice(round((box.top - top) * y), max(round((box.bottom - top) * y), 1))
        columns = slice(round((box.left - left) * x), max(round((box.right - left) * x), 1))
        cut = self._cut(small, rows, columns)
        pixels = cv2.resize(cut, (width, height), interpolation=cv2.INTER_NEAREST)
        return Mask(box.phrase, box.box, left, top, pixels.astype(bool))

    def _cut(self, image: NDArray[np.uint8], rows: slice, columns: slice) -> NDArray[np.uint8]:
        labels = np.full(image.shape[:2], cv2.GC_BGD, np.uint8)
        labels[rows, columns] = cv2.GC_PR_FGD
        inside = labels == cv2.GC_PR_FGD
        # The cut fits five colours to each side; with fewer pixels the box itself is the answer.
        if min(np.count_nonzero(inside), np.count_nonzero(~inside)) < 16:
            return inside.astype(np.uint8)
        models, no_rect = np.zeros((2, 1, 65)), (0, 0, 1, 1)
        bgr = np.ascontiguousarray(image[..., ::-1])
        cv2.grabCut(
            bgr, labels, no_rect, models[0], models[1], self._iterations, cv2.GC_INIT_WITH_MASK
        )
        return _largest_piece((labels == cv2.GC_PR_FGD).astype(np.uint8))


def _largest_piece(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return mask
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return (pieces == largest).astype(np.uint8)
