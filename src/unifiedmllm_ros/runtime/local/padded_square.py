"""OWLv2's preprocessing: an image in the corner of a square, shrunk with its own filter.

The published code needs SciPy for this; the rule is short: pad at the bottom and the right with
zeros to a square, blur with a Gaussian of sigma (factor - 1) / 2 where it shrinks (mirrored
borders, cut off at 4 sigma), sample bilinearly at the centres of the new pixels, clip to the
input's range, normalise. Source: image_processing_pil_owlv2 of transformers, after
skimage.transform.resize.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from unifiedmllm_ros.errors import ModelFileError
from unifiedmllm_ros.runtime.local.family import Picture


@dataclass(frozen=True)
class PaddedSquare:
    """A checkpoint's preprocessor_config.json."""

    side: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def read(cls, folder: Path) -> PaddedSquare:
        """Read it. Raises ModelFileError."""
        path = folder / 'preprocessor_config.json'
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
            size = content.get('size', {'height': 960})
            return cls(
                int(size['height']),
                tuple(map(float, content['image_mean'])),
                tuple(map(float, content['image_std'])),
            )
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ModelFileError(f'{path} cannot be used: {error}') from error

    def pixels(self, image: Picture) -> Any:
        """Return float32 [1, 3, side, side]."""
        import torch

        square = self.resized(image)
        mean, deviation = (np.asarray(v, np.float32) for v in (self.mean, self.deviation))
        normal = (square - mean) / deviation
        return torch.from_numpy(np.ascontiguousarray(normal.transpose(2, 0, 1)[None]))

    def resized(self, image: Picture) -> npt.NDArray[np.float32]:
        """Return the square in [0, 1], float32 [side, side, 3]."""
        longest = max(image.shape[:2])
        square = np.zeros((longest, longest, 3), np.float32)
        square[: image.shape[0], : image.shape[1]] = image.astype(np.float32) / 255
        sigma = max(0.0, (longest / self.side - 1) / 2)
        if sigma > 0:
            reach = 2 * int(4 * sigma + 0.5) + 1
            # Wider than the image cannot be mirrored once; then the borders are black anyway.
            reach = min(reach, 2 * (longest - 1) + 1)
            square = cv2.GaussianBlur(
                square, (reach, reach), sigma, borderType=cv2.BORDER_REFLECT_101
            )
        small = cv2.resize(square, (self.side, self.side), interpolation=cv2.INTER_LINEAR)
        return np.clip(np.asarray(small, np.float32), 0.0, 1.0)
