"""Draws scenes at random: one generator per scene, so that any scene can be made alone.

Training and test scenes come from different streams of random numbers and different textures;
held-out objects appear only where the caller asks for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.tabletop.catalogue import CATALOGUE, HELD_OUT, KNOWN
from unifiedmllm_ros.tabletop.scene import (
    Array,
    Camera,
    Lamp,
    Placement,
    Room,
    Scene,
    Sensor,
    Surface,
    Vector,
)
from unifiedmllm_ros.tabletop.shapes import Shape
from unifiedmllm_ros.tabletop.textures import textures_of

SPLIT_STREAMS = {'train': 1, 'test': 2}
GAP = 0.008
SHADOW_SHARE = 0.02
Generator = np.random.Generator


@dataclass(frozen=True)
class Wanted:
    """What to draw: `split` picks textures and stream, `held_out` puts a held-out object in."""

    split: str
    held_out: bool = False
    seed: int = 0


def draw_scene(wanted: Wanted, number: int, shapes: Mapping[str, Shape]) -> Scene:
    """Scene `number` of a split; the same arguments always give the same scene.

    Raises ConfigError when `shapes` holds too few objects to choose from.
    """
    _check_enough(wanted, shapes)
    stream = [SPLIT_STREAMS[wanted.split], int(wanted.held_out), wanted.seed, number]
    rng = np.random.default_rng(stream)
    while True:
        room = _room(rng, wanted.split)
        camera = _camera(rng, room)
        objects = _objects(rng, wanted, shapes, room, camera)
        if len(objects) >= 2 and _has_wanted(objects, wanted):
            break
    lamps, ambient = _light(rng)
    sensor = _sensor(rng)
    return Scene(wanted.split, number, room, camera, lamps, ambient, objects, sensor)


def _check_enough(wanted: Wanted, shapes: Mapping[str, Shape]) -> None:
    small = [name for name in KNOWN if name in shapes and not _bulky(shapes[name])]
    if len(small) < 2:
        raise ConfigError(f'{len(shapes)} objects are too few: load at least two small known ones')
    if wanted.held_out and not any(name in shapes for name in HELD_OUT):
        raise ConfigError('no held-out object is loaded: add one of ' + ', '.join(HELD_OUT))


def _has_wanted(objects: tuple[Placement, ...], wanted: Wanted) -> bool:
    return not wanted.held_out or any(CATALOGUE[item.name].held_out for item in objects)


def _pick(rng: Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _room(rng: Generator, split: str) -> Room:
    textures = textures_of(split)
    return Room(
        table=Surface(_pick(rng, textures.table), float(rng.uniform(0.35, 1.1)), _tint(rng, 0.12)),
        wall=Surface(_pick(rng, textures.wall), float(rng.uniform(0.6, 2.0)), _tint(rng, 0.15)),
        floor=Surface(_pick(rng, textures.floor), float(rng.uniform(0.6, 1.5)), _tint(rng, 0.15)),
        half_size=(float(rng.uniform(0.45, 0.85)), float(rng.uniform(0.35, 0.6))),
        wall_distance=float(rng.uniform(0.05, 0.9)),
    )


def _tint(rng: Generator, depth: float) -> Vector:
    shade = rng.uniform(1 - 2.5 * depth, 1.0)
    red, green, blue = np.clip(shade * rng.uniform(1 - depth, 1.0, 3), 0.1, 1.0)
    return (float(red), float(green), float(blue))


def _camera(rng: Generator, room: Room) -> Camera:
    target = np.array([rng.normal(0, 0.05), rng.normal(0, 0.05), rng.uniform(0.0, 0.08)])
    distance = rng.uniform(0.52, 1.1)
    pitch = math.radians(rng.uniform(18, 62))
    yaw = math.radians(np.clip(rng.normal(0, 18), -42, 42))
    back = (math.sin(yaw) * math.cos(pitch), -math.cos(yaw) * math.cos(pitch), math.sin(pitch))
    x, y, z = target + distance * np.array(back)
    fovy = float(rng.uniform(38, 58))
    roll = float(np.clip(rng.normal(0, 0.015), -0.05, 0.05))
    return Camera((x, y, z), (target[0], target[1], target[2]), fovy, roll)


def _objects(
    rng: Generator, wanted: Wanted, shapes: Mapping[str, Shape], room: Room, camera: Camera
) -> tuple[Placement, ...]:
    placed: list[Placement] = []
    outlines: list[Array] = []
    for name in _names(rng, wanted, shapes):
        slot = sum(item.name == name for item in placed)
        for _ in range(12):
            item = _place(rng, name, slot, room)
            points = shapes[name].placed(item)
            outline = _outline(points)
            if not _on_table(points, room) or not _in_view(points, camera):
                continue
            if any(_touch(outline, other) for other in outlines):
                continue
            placed.append(item)
            outlines.append(outline)
            break
    return tuple(placed)


def _names(rng: Generator, wanted: Wanted, shapes: Mapping[str, Shape]) -> list[str]:
    known = [name for name in KNOWN if name in shapes]
    held = [name for name in HELD_OUT if name in shapes]
    by_kind: dict[str, list[str]] = {}
    for name in known:
        by_kind.setdefault(CATALOGUE[name].kind, []).append(name)
    kinds = sorted(by_kind)
    weights = np.array([_weight(by_kind[kind], shapes) for kind in kinds])
    # Never more different things than there are (when only a few objects are loaded).
    count = min(int(rng.integers(2, 9)), sum(not _bulky(shapes[name]) for name in known))
    names: list[str] = []
    if wanted.held_out:
        size = min(int(rng.integers(1, 3)), len(held))
        names += [str(name) for name in rng.choice(held, size=size, replace=False)]
    if rng.random() < 0.45:
        names += _family(rng, by_kind, kinds, weights)
        names = _one_bulky(names, shapes)
    while len(names) < count:
        kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
        name = _pick(rng, tuple(by_kind[kind]))
        if names.count(name) < 1 and not (_bulky(shapes[name]) and _any_bulky(names, shapes)):
            names.append(name)
    order = rng.permutation(len(names))
    return sorted((names[i] for i in order), key=lambda n: not _bulky(shapes[n]))


def _weight(names: list[str], shapes: Mapping[str, Shape]) -> float:
    return float(len(names) ** 0.6) * (0.4 if _bulky(shapes[names[0]]) else 1.0)


def _family(
    rng: Generator, by_kind: dict[str, list[str]], kinds: list[str], weights: Array
) -> list[str]:
    """Two or three things of one kind, now and then two of the very same."""
    kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
    if rng.random() < 0.4 or len(by_kind[kind]) < 2:
        return [_pick(rng, tuple(by_kind[kind]))] * 2
    size = min(len(by_kind[kind]), int(rng.integers(2, 4)))
    return [str(name) for name in rng.choice(by_kind[kind], size=size, replace=False)]


def _one_bulky(names: list[str], shapes: Mapping[str, Shape]) -> list[str]:
    kept: list[str] = []
    for name in names:
        if not (_bulky(shapes[name]) and _any_bulky(kept, shapes)):
            kept.append(name)
    return kept


def _bulky(shape: Shape) -> bool:
    spans = np.sort(np.ptp(shape.points, axis=0))
    return bool(spans[1] * spans[2] > 0.024)


def _any_bulky(names: list[str], shapes: Mapping[str, Shape]) -> bool:
    return any(_bulky(shapes[name]) for name in names)


def _place(rng: Generator, name: str, slot: int, room: Room) -> Placement:
    rests = CATALOGUE[name].rests
    rest = rests[0] if rng.random() < 0.6 else _pick(rng, rests)
    half_x, half_y = min(room.half_size[0], 0.42), min(room.half_size[1], 0.34)
    x, y = rng.uniform(-half_x, half_x), rng.uniform(-half_y, half_y)
    return Placement(name, slot, rest, float(x), float(y), float(rng.uniform(-math.pi, math.pi)))


def _outline(points: Array) -> Array:
    """Convex outline on the table, widened by the least gap between two objects."""
    flat = points[:, :2]
    middle = flat.mean(axis=0)
    away = flat - middle
    length = np.linalg.norm(away, axis=1, keepdims=True)
    wide = flat + away / np.maximum(length, 1e-6) * GAP
    return np.asarray(cv2.convexHull(wide.astype(np.float32)))


def _touch(one: Array, other: Array) -> bool:
    area, _ = cv2.intersectConvexConvex(one, other)
    return bool(area > 0)


def _on_table(points: Array, room: Room) -> bool:
    return bool(
        (np.abs(points[:, 0]) < room.half_size[0]).all()
        and (np.abs(points[:, 1]) < room.half_size[1]).all()
    )


def _in_view(points: Array, camera: Camera) -> bool:
    """Whether at least 85% of the object's box lies in a 4:3 picture, each way."""
    pixels = camera.project(points, 400, 300)
    if np.isnan(pixels).any():
        return False
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    inside = np.minimum(high, (400, 300)) - np.maximum(low, 0)
    return bool((inside >= 0.85 * (high - low)).all())


def _light(rng: Generator) -> tuple[tuple[Lamp, ...], Vector]:
    warm = rng.uniform(-0.15, 0.15)
    colour = np.array([1 + warm, 1.0, 1 - warm])
    ambient = rng.uniform(0.38, 0.7) * colour
    shadow = bool(rng.random() < SHADOW_SHARE)
    lamps = [_lamp(rng, rng.uniform(0.35, 0.7) * colour, shadow)]
    for _ in range(2):
        lamps.append(_lamp(rng, rng.uniform(0.0, 0.25) * colour, False))
    return tuple(lamps), (float(ambient[0]), float(ambient[1]), float(ambient[2]))


def _lamp(rng: Generator, diffuse: Array, shadow: bool) -> Lamp:
    x, y, z = rng.uniform(-1.2, 1.2), rng.uniform(-1.4, 0.8), rng.uniform(1.0, 2.4)
    aim = -np.array([x + rng.normal(0, 0.1), y + rng.normal(0, 0.1), z])
    aim = aim / np.linalg.norm(aim)
    return Lamp(
        (float(x), float(y), float(z)),
        (float(aim[0]), float(aim[1]), float(aim[2])),
        (float(diffuse[0]), float(diffuse[1]), float(diffuse[2])),
        bool(rng.random() < 0.5),
        shadow,
    )


def _sensor(rng: Generator) -> Sensor:
    red, green, blue = rng.uniform(0.85, 1.2) * rng.uniform(0.94, 1.06, 3)
    return Sensor(
        gain=(float(red), float(green), float(blue)),
        gamma=float(np.exp(rng.normal(0, 0.12))),
        blur=float(rng.uniform(0.3, 0.9)) if rng.random() < 0.3 else 0.0,
        noise=float(rng.uniform(1, 6)) if rng.random() < 0.5 else 0.0,
        noise_seed=int(rng.integers(2**31)),
    )
