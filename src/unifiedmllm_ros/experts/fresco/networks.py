"""Where optical flow and backgrounds come from: OpenCV, or networks as ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.errors import ModelError, ModelFileError
from unifiedmllm_ros.runtime.onnx_session import spin_while_running


def dis_flow(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the flow of DIS (Kroeger et al., 2016), classical: nothing learnt."""
    grey = [cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in (before, after)]
    start = np.zeros((*grey[0].shape, 2), np.float32)
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(dis.calc(grey[0], grey[1], start), np.float32)


class _Network:
    """An ONNX file with four-dimensional float inputs and outputs of given names."""

    inputs: tuple[str, ...]
    output: str

    def __init__(self, path: Path, name: str) -> None:
        """Read the file for the expert `name`. Raises ModelFileError where it is another."""
        import onnxruntime

        self._name, self._path = name, path
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # failures are raised, not also printed
        spin_while_running(options)
        try:
            self._session = onnxruntime.InferenceSession(
                path.read_bytes(), options, providers=['CPUExecutionProvider']
            )
        except OSError as error:
            raise ModelFileError(
                f'network {path} of expert {name!r} cannot be read ({error.strerror}): put it '
                'there or set another path in experts.yaml'
            ) from error
        except Exception as error:  # onnxruntime's errors share no public base class
            reason = str(error).splitlines()[0][:200]
            raise ModelFileError(f'{path} is not a whole ONNX model ({reason})') from error
        found = [_signature(self._session.get_inputs()), _signature(self._session.get_outputs())]
        wanted = [
            [(one, 'tensor(float)', 4) for one in names] for names in (self.inputs, (self.output,))
        ]
        if found != wanted:
            raise ModelFileError(
                f'{path} of expert {name!r} takes {found[0]} and gives {found[1]}; it must take '
                f'{wanted[0]} and give {wanted[1]} (name, type, dimensions)'
            )

    def _run(self, channels: int, *images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the output for images (height, width, 3), (height, width, channels)."""
        given = {
            name: np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)
            for name, image in zip(self.inputs, images, strict=True)
        }
        try:
            (found,) = self._session.run([self.output], given)
        except Exception as error:  # onnxruntime's errors share no public base class
            reason = str(error).splitlines()[0][:200]
            raise ModelError(
                f'network {self._path} of expert {self._name!r} failed: {reason}'
            ) from error
        wanted = (1, channels, *images[0].shape[:2])
        if found.shape != wanted or not np.isfinite(found).all():
            raise ModelError(
                f'network {self._path} of expert {self._name!r} gave {found.shape}, or numbers '
                f'that are not finite, instead of {wanted}: use another one'
            )
        return np.asarray(found[0].transpose(1, 2, 0), np.float32)


class FlowNetwork(_Network):
    """`before`, `after`: (1, 3, h, w) RGB in [0, 255] -> `flow`: (1, 2, h, w), x and y, pixels."""

    inputs = ('before', 'after')
    output = 'flow'

    def __call__(self, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return where each pixel of `before` goes in `after`, (height, width, 2)."""
        return self._run(2, before.astype(np.float32), after.astype(np.float32))


class BackgroundNetwork(_Network):
    """`image`: (1, 3, h, w) RGB in [0, 1] -> `background`: (1, 1, h, w), 1 is background."""

    inputs = ('image',)
    output = 'background'

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return how much each pixel is background, (height, width, 1) in [0, 1]."""
        return self._run(1, image.astype(np.float32) / np.float32(255)).clip(0, 1)


def _signature(arguments: Any) -> list[tuple[str, str, int]]:
    return [(one.name, one.type, len(one.shape)) for one in arguments]
