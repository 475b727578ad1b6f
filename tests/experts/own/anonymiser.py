"""An expert of one's own: a distribution outside the package, found by its entry point.

It does the task `regedit` by covering each box with large squares, so that nobody can be made out.
"""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np

from unifiedmllm_ros.cancellation import Cancel, check
from unifiedmllm_ros.experts.base import (
    ImageResult,
    OnProgress,
    Progress,
    Provenance,
    Request,
    needed_image,
)


class Anonymiser:
    """Covers what is in the boxes. cells: squares along the longer side of a box."""

    def __init__(self, name: str, weights: Path | None = None, cells: int = 4) -> None:
        self.name = name
        self.cells = cells
        self.loaded = False

    def load(self) -> None:
        """Weights would be read here."""
        self.loaded = True

    def unload(self) -> None:
        """And given back here."""
        self.loaded = False

    def run(self, request: Request, progress: OnProgress, cancel: Cancel) -> ImageResult:
        """Cover the boxes one after the other."""
        start = time.perf_counter()
        image = needed_image(request, self.name).copy()
        cells = int(request.parameters.get('cells', self.cells))
        for index, box in enumerate(request.boxes):
            check(cancel, f'expert {self.name}')
            progress(Progress('cover', index / len(request.boxes)))
            left, top, right, bottom = map(round, box.edges)
            part = image[top:bottom, left:right]
            size = min(cells, part.shape[1]), min(cells, part.shape[0])
            small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
            full = part.shape[1::-1]
            image[top:bottom, left:right] = cv2.resize(small, full, interpolation=cv2.INTER_NEAREST)
        progress(Progress('cover', 1.0))
        duration = (time.perf_counter() - start) * 1000
        provenance = Provenance(
            self.name, 'classical', '', request.seed, {'cells': cells}, duration
        )
        return ImageResult(provenance, (np.asarray(image, np.uint8),))
