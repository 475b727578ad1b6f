"""The picture and mask files of a scene."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.errors import ImageError
from unifiedmllm_ros.tabletop.record import SceneRecord


def read_picture(data: Path, scene: SceneRecord) -> NDArray[np.uint8]:
    """The scene's picture, (H, W, 3) RGB. Raises ImageError where the file is unreadable."""
    return _read(data / scene.image, cv2.IMREAD_COLOR_RGB)


def read_owners(data: Path, scene: SceneRecord) -> NDArray[np.uint8]:
    """(H, W): index of the object that owns each pixel, plus 1; 0 is none. Raises ImageError."""
    return _read(data / scene.mask, cv2.IMREAD_GRAYSCALE)


def _read(file: Path, flag: int) -> NDArray[np.uint8]:
    pixels = cv2.imread(str(file), flag)
    if pixels is None:
        raise ImageError(
            f'{file} is missing or no image; make the data again with `unifiedmllm data tabletop`'
        )
    return np.asarray(pixels, np.uint8)
