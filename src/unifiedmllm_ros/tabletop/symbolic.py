"""Scenes made up without rendering: blocks on a table before a pinhole camera.

They carry everything that questions need (boxes, depth, sizes, hidden shares), so that tests and
the tokenizer's text need no simulator.
"""

from __future__ import annotations

import math
import zlib
from random import Random

import numpy as np

from unifiedmllm_ros.tabletop.lexicon import Lexicon
from unifiedmllm_ros.tabletop.record import ObjectRecord, SceneRecord, Triple

_GRID = (60, 80)


def sample_scene(
    rng: Random, lexicon: Lexicon, count: int | None = None, held_out: bool = False
) -> SceneRecord:
    """A scene of `count` (2 to 8 by default) objects; held-out ones only where `held_out`."""
    assets = sorted(a for a, e in lexicon.entries.items() if held_out or not e.held_out)
    number = count or rng.randint(2, 8)
    names = [rng.choice(assets) for _ in range(number)]
    pitch, distance = rng.uniform(0.5, 0.9), rng.uniform(0.8, 1.2)
    blocks = [_block(rng, name) for name in names]
    eyes = [_to_camera(position, pitch, distance) for position, _ in blocks]
    boxes = [_project(p, s, pitch, distance) for p, s in blocks]
    areas = _visible(boxes, [eye[2] for eye in eyes])
    objects = tuple(
        ObjectRecord(
            i, names[i], boxes[i], areas[i][0], areas[i][1], *blocks[i][:1], eyes[i], blocks[i][1]
        )
        for i in range(number)
    )
    return SceneRecord('made-up', 'train', 0, '', '', 320, 240, {}, objects)


def _block(rng: Random, name: str) -> tuple[Triple, Triple]:
    shape = Random(zlib.crc32(name.encode()))
    size = (shape.uniform(0.05, 0.2), shape.uniform(0.05, 0.2), shape.uniform(0.03, 0.2))
    return (rng.uniform(-0.35, 0.35), rng.uniform(-0.3, 0.3), 0.0), size


def _to_camera(point: Triple, pitch: float, distance: float) -> Triple:
    x, y, z = point
    away, up = y + distance * math.cos(pitch), z - distance * math.sin(pitch)
    cos, sin = math.cos(pitch), math.sin(pitch)
    return x, -(up * cos + away * sin), away * cos - up * sin


def _project(
    position: Triple, size: Triple, pitch: float, distance: float
) -> tuple[float, float, float, float]:
    us, vs = [], []
    for corner in range(8):
        dx, dy, dz = (((corner >> a) & 1) - 0.5 for a in range(3))
        point = (
            position[0] + dx * size[0],
            position[1] + dy * size[1],
            position[2] + (dz + 0.5) * size[2],
        )
        x, y, z = _to_camera(point, pitch, distance)
        us.append(0.5 + 0.9 * x / max(z, 0.05))
        vs.append(0.5 + 1.2 * y / max(z, 0.05))
    low, high = (min(us), min(vs)), (max(us), max(vs))
    x1, y1 = (min(max(v, 0.0), 0.99) for v in low)
    return x1, y1, min(max(high[0], x1 + 0.005), 1.0), min(max(high[1], y1 + 0.005), 1.0)


def _visible(
    boxes: list[tuple[float, float, float, float]], depths: list[float]
) -> list[tuple[int, float]]:
    rows, columns = _GRID
    owner = np.full(_GRID, -1)
    spans = [
        (
            slice(int(y1 * rows), max(int(y2 * rows), int(y1 * rows) + 1)),
            slice(int(x1 * columns), max(int(x2 * columns), int(x1 * columns) + 1)),
        )
        for x1, y1, x2, y2 in boxes
    ]
    for index in sorted(range(len(boxes)), key=lambda i: -depths[i]):
        owner[spans[index]] = index
    scale = 320 * 240 // (rows * columns)
    shares = []
    for index, span in enumerate(spans):
        whole, left = owner[span].size, int((owner == index).sum())
        shares.append((left * scale, left / whole))
    return shares
