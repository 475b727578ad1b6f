"""Features of the backbone's frozen front, computed once and kept on disk.

The front (up to stride 8) sees the most pixels and knows edges and textures from ImageNet, which
suit any picture. It never changes, so that each image passes it once instead of once per epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unifiedmllm_ros.model.efficientnet import PYRAMID_CHANNELS, EfficientNetLite0
from unifiedmllm_ros.model.regions import STRIDE
from unifiedmllm_ros.tabletop.pictures import read_picture
from unifiedmllm_ros.tabletop.record import SceneRecord


@dataclass
class FrontCache:
    """Memory-mapped float16 feature maps of a data folder: maps[scene] is (C, h, w)."""

    path: Path
    maps: NDArray[np.float16]
    count: int

    @classmethod
    def open(cls, path: Path, image_size: tuple[int, int], capacity: int) -> FrontCache:
        """Open or create the cache of at most `capacity` images."""
        path.mkdir(parents=True, exist_ok=True)
        rows, columns = (-(-size // STRIDE) for size in image_size)
        shape = (capacity, PYRAMID_CHANNELS[0], rows, columns)
        file, done = path / 'stride8.f16', path / 'count.txt'
        maps = np.memmap(file, np.float16, 'r+' if file.exists() else 'w+', shape=shape)
        return cls(path, maps, int(done.read_text()) if done.exists() else 0)

    def extend(
        self, folder: Path, scenes: list[SceneRecord], backbone: EfficientNetLite0, batch: int = 16
    ) -> None:
        """Compute what is missing for `scenes`; interrupted work resumes at the last batch."""
        while self.count < len(scenes):
            chunk = scenes[self.count : self.count + batch]
            height, width = (size * STRIDE for size in self.maps.shape[2:])
            images = np.stack([read_pixels(folder, s, (height, width)) for s in chunk])
            self.maps[self.count : self.count + len(chunk)] = front_features(backbone, images)
            self.count += len(chunk)
            (self.path / 'count.txt').write_text(str(self.count))

    def batch(self, indices: NDArray[np.int64]) -> Tensor:
        """Feature maps of some scenes, (B, C, h, w) float32."""
        return torch.from_numpy(self.maps[indices].astype(np.float32))


def read_pixels(
    folder: Path, scene: SceneRecord, image_size: tuple[int, int]
) -> NDArray[np.float32]:
    """A scene's picture as (3, H, W) RGB in [0, 1], stretched to image_size."""
    image = read_picture(folder, scene)
    if image.shape[:2] != image_size:
        image = np.asarray(cv2.resize(image, image_size[::-1], interpolation=cv2.INTER_AREA))
    return image.transpose(2, 0, 1).astype(np.float32) / 255.0


@torch.inference_mode()
def front_features(backbone: EfficientNetLite0, images: NDArray[np.float32]) -> NDArray[np.float16]:
    """Stride-8 features of a batch in bfloat16, several times faster where the CPU has it."""
    pixels = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
    with torch.autocast('cpu', torch.bfloat16):
        features = backbone.front(pixels)
    # The largest activations stay far below float16's range; clamp all the same.
    return features.float().clamp(-6e4, 6e4).half().numpy()
