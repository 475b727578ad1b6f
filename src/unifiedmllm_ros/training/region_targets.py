"""What the dense head should say about a scene, from ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unifiedmllm_ros.tabletop.record import ObjectRecord, SceneRecord

POSITIVE = 0.5  # cells whose heat is above this learn edges and words too


@dataclass(frozen=True)
class DenseTargets:
    """heat (B,h,w) in [0, 1], 1 at centre cells; ignore (B,h,w) bool; owner (B,h,w) index into the
    rows of boxes, words and geometry, -1 where there is none; boxes (M,4); words (M,W);
    geometry (M,3)."""

    heat: Tensor
    ignore: Tensor
    owner: Tensor
    boxes: Tensor
    words: Tensor
    geometry: Tensor


def geometry_of(thing: ObjectRecord) -> tuple[float, float, float]:
    """Logarithms of depth in metres and of width and height in decimetres."""
    width = max(thing.size[0], thing.size[1], 1e-3)
    depth = max(thing.position_camera[2], 1e-2)
    height = max(thing.size[2], 1e-3)
    return float(np.log(depth)), float(np.log(10 * width)), float(np.log(10 * height))


def dense_targets(
    scenes: list[SceneRecord], words: list[NDArray[np.float32]], shape: tuple[int, int]
) -> DenseTargets:
    """Args: words: for each scene (objects, W) with 1 where the word names the object."""
    rows, columns = shape
    heat = np.zeros((len(scenes), rows, columns), np.float32)
    ignore = np.zeros_like(heat, dtype=bool)
    owner = np.full_like(heat, -1, dtype=np.int64)
    boxes: list[tuple[float, ...]] = []
    names: list[NDArray[np.float32]] = []
    geometry: list[tuple[float, ...]] = []
    y, x = np.mgrid[:rows, :columns] + 0.5
    for i, scene in enumerate(scenes):
        for thing, word_row in zip(scene.objects, words[i], strict=True):
            if thing.area == 0:
                continue
            bell = _bell(np.array(thing.box), x, y)
            if not scene.referable(thing):
                ignore[i] |= bell > 0.1
                continue
            taken = (bell > POSITIVE) & (bell >= heat[i])
            owner[i][taken] = len(boxes)
            heat[i] = np.maximum(heat[i], bell)
            boxes.append(thing.box)
            names.append(word_row)
            geometry.append(geometry_of(thing))
    ignore &= heat < POSITIVE
    return DenseTargets(
        torch.from_numpy(heat),
        torch.from_numpy(ignore),
        torch.from_numpy(owner),
        torch.tensor(np.array(boxes, np.float32).reshape(-1, 4)),
        torch.tensor(np.array(names, np.float32)),
        torch.tensor(np.array(geometry, np.float32).reshape(-1, 3)),
    )


def _bell(box: NDArray[np.float64], x: NDArray, y: NDArray) -> NDArray[np.float32]:
    """A bell around the box's centre, elongated as the box, 1 at the nearest cell."""
    rows, columns = x.shape
    cx, cy = (box[0] + box[2]) / 2 * columns, (box[1] + box[3]) / 2 * rows
    sx = max(0.7, (box[2] - box[0]) * columns / 8)
    sy = max(0.7, (box[3] - box[1]) * rows / 8)
    bell = np.exp(-0.5 * (((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2))
    bell[min(int(cy), rows - 1), min(int(cx), columns - 1)] = 1.0
    return bell.astype(np.float32)
