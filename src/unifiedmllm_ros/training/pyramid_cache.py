"""Features of the frozen backbone, computed once and kept on disk.

The backbone does most of the arithmetic of the region encoder and never changes while the dense
head learns, so that each image passes it once instead of once per epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from unifiedmllm_ros.model.efficientnet import PYRAMID_CHANNELS, EfficientNetLite0
from unifiedmllm_ros.tabletop.pictures import read_picture
from unifiedmllm_ros.tabletop.record import SceneRecord

STRIDES = (8, 16, 32)


@dataclass
class PyramidCache:
    """Memory-mapped float16 feature maps of a data folder: maps[level][scene] is (C, h, w)."""

    maps: list[NDArray[np.float16]]
    count: int

    @classmethod
    def open(cls, path: Path, image_size: tuple[int, int], capacity: int) -> PyramidCache:
        """Open or create the cache of at most `capacity` images."""
        path.mkdir(parents=True, exist_ok=True)
        maps: list[NDArray[np.float16]] = []
        for stride, channels in zip(STRIDES, PYRAMID_CHANNELS, strict=True):
            rows, columns = (-(-size // stride) for size in image_size)
            file = path / f'stride{stride}.f16'
            shape = (capacity, channels, rows, columns)
            if file.exists():
                maps.append(np.memmap(file, np.float16, 'r+', shape=shape))
            else:
                maps.append(np.memmap(file, np.float16, 'w+', shape=shape))
        done = path / 'count.txt'
        return cls(maps, int(done.read_text()) if done.exists() else 0)

    def extend(
        self,
        folder: Path,
        scenes: list[SceneRecord],
        backbone: EfficientNetLite0,
        path: Path,
        batch: int = 16,
    ) -> None:
        """Compute what is missing for `scenes`; interrupted work resumes at the last batch."""
        while self.count < len(scenes):
            chunk = scenes[self.count : self.count + batch]
            height, width = (size * STRIDES[0] for size in self.maps[0].shape[2:])
            images = np.stack([read_pixels(folder, s, (height, width)) for s in chunk])
            for level, features in zip(self.maps, pyramid(backbone, images), strict=True):
                level[self.count : self.count + len(chunk)] = features
            self.count += len(chunk)
            (path / 'count.txt').write_text(str(self.count))

    def batch(self, indices: NDArray[np.int64]) -> list[torch.Tensor]:
        """Feature maps of some scenes as float32 tensors."""
        return [torch.from_numpy(level[indices].astype(np.float32)) for level in self.maps]


def read_pixels(
    folder: Path, scene: SceneRecord, image_size: tuple[int, int]
) -> NDArray[np.float32]:
    """A scene's picture as (3, H, W) RGB in [0, 1], stretched to image_size."""
    image = read_picture(folder, scene)
    if image.shape[:2] != image_size:
        image = np.asarray(cv2.resize(image, image_size[::-1], interpolation=cv2.INTER_AREA))
    return image.transpose(2, 0, 1).astype(np.float32) / 255.0


@torch.inference_mode()
def pyramid(backbone: EfficientNetLite0, images: NDArray[np.float32]) -> Iterator[NDArray]:
    """Feature maps of a batch in bfloat16, which is several times faster where the CPU has it."""
    pixels = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
    with torch.autocast('cpu', torch.bfloat16):
        maps = backbone(pixels)
    # The largest activations stay far below float16's range; clamp all the same.
    return (m.float().clamp(-6e4, 6e4).half().numpy() for m in maps)
