"""Box-prompted segmentation on the robot itself: a small mask network on ONNX Runtime."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.cancellation import Cancel, check
from unifiedmllm_ros.errors import ConfigError, ModelError, ModelFileError
from unifiedmllm_ros.experts.base import (
    OnProgress,
    PixelBox,
    Progress,
    Provenance,
    Request,
    SegmentationResult,
    needed_image,
)
from unifiedmllm_ros.experts.crops import CROP, MARGIN, crop_box, crop_window, paste_logits
from unifiedmllm_ros.masks import Mask
from unifiedmllm_ros.runtime.onnx_session import spin_while_running

__all__ = ['CROP', 'MARGIN', 'MaskNetwork', 'crop_box', 'crop_window']

_BATCH = 32
_INPUT = ('crops', 'tensor(float)', [4, CROP, CROP])
_OUTPUT = ('logits', 'tensor(float)', [CROP, CROP])


class MaskNetwork:
    """The embedded mask network, on ONNX Runtime.

    weights: an ONNX file, `crops` float32 (n, 4, 96, 96) -> `logits` float32 (n, 96, 96).
    threads: CPU threads of one run.
    """

    def __init__(self, name: str, weights: Path | None, threads: int = 2) -> None:
        if weights is None:
            raise ConfigError(f'expert {name!r} needs weights: the path of its ONNX file')
        self.name = name
        self._path = weights
        self._threads = threads
        self._session: Any = None
        self._weights = ''

    def load(self) -> None:
        """Read the weights. Raises ModelFileError where they are not what they should be."""
        if self._session is None:
            data = _read(self._path, self.name)
            self._session = _session(data, self._path, self._threads)
            self._weights = f'{self._path.name} sha256:{hashlib.sha256(data).hexdigest()[:16]}'

    def unload(self) -> None:
        """Drop the session."""
        self._session = None

    def run(self, request: Request, progress: OnProgress, cancel: Cancel) -> SegmentationResult:
        """Segment every box of the request, many in one run of the network."""
        start = time.perf_counter()
        self.load()
        image = needed_image(request, self.name)
        masks: list[Mask] = []
        for first in range(0, len(request.boxes), _BATCH):
            check(cancel, f'expert {self.name}')
            progress(Progress('segment', first / len(request.boxes)))
            masks += self._segment(image, request.boxes[first : first + _BATCH])
        progress(Progress('segment', 1.0))
        provenance = Provenance(
            self.name,
            'onnxruntime',
            self._weights,
            request.seed,
            {'threads': self._threads},
            (time.perf_counter() - start) * 1000,
        )
        return SegmentationResult(provenance, tuple(masks))

    def _segment(self, image: NDArray[np.uint8], boxes: Sequence[PixelBox]) -> list[Mask]:
        crops = np.stack([crop_box(image, box.edges) for box in boxes])
        (logits,) = self._session.run(['logits'], {'crops': crops})
        if not np.isfinite(logits).all():
            raise ModelError(
                f'expert {self.name!r} gave numbers that are not finite: its weights '
                f'{self._path} are damaged, fetch or train them again'
            )
        height, width = image.shape[:2]
        return [
            paste_logits(one, box, height, width) for one, box in zip(logits, boxes, strict=True)
        ]


def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(
            f'weights {path} of expert {name!r} cannot be read ({error.strerror}): '
            'put the file there or set another path in experts.yaml'
        ) from error


def _session(data: bytes, path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # failures are raised, not also printed
    spin_while_running(options)
    try:
        session = onnxruntime.InferenceSession(data, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # onnxruntime's errors share no public base class
        reason = str(error).splitlines()[0][:200]
        raise ModelFileError(
            f'weights {path} are not a whole ONNX model ({reason}): fetch or export them again'
        ) from error
    found = [_signature(session.get_inputs()), _signature(session.get_outputs())]
    if found != [[_INPUT], [_OUTPUT]]:
        raise ModelFileError(
            f'weights {path} are not a mask network of this version: expected {_INPUT} -> '
            f'{_OUTPUT} for each crop, found {found[0]} -> {found[1]}'
        )
    return session


def _signature(arguments: Sequence[Any]) -> list[tuple[str, str, list[Any]]]:
    return [(one.name, one.type, list(one.shape[1:])) for one in arguments]
