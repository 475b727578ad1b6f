"""The record of one tabletop scene: what stands where, as the renderer knows it.

One JSON object per scene. The records are the ground truth of everything the simulated world
teaches and measures; this file knows their fields and nothing about rendering.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unifiedmllm_ros.errors import UnifiedMLLMError
from unifiedmllm_ros.response import Box

Triple = tuple[float, float, float]
Corners = tuple[float, float, float, float]

MIN_VISIBLE_FRACTION = 0.25
MIN_VISIBLE_SHARE = 60 / (320 * 240)


class SceneRecordError(UnifiedMLLMError):
    """A scene record that lacks a field or holds a value of the wrong shape."""

    code = 'scene_record'


@dataclass(frozen=True)
class ObjectRecord:
    """One object of a scene.

    `box` is (x1, y1, x2, y2) of the visible pixels in [0, 1]; `area` counts them and `visible` is
    their share of the pixels that the object would cover alone. `position` is in world metres
    (x right, y away), `position_camera` in camera metres (x right, y down, z forward), `size` is
    the extent in world axes, in metres.
    """

    index: int
    name: str
    box: Corners
    area: int
    visible: float
    position: Triple
    position_camera: Triple
    size: Triple

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ObjectRecord:
        """Read one object. Raises SceneRecordError where a field is missing or misshapen."""
        return cls(
            index=int(_field(value, 'index', int)),
            name=str(_field(value, 'name', str)),
            box=_numbers(value, 'box', 4),  # type: ignore[arg-type]
            area=int(_field(value, 'area', int)),
            visible=float(_field(value, 'visible', (int, float))),
            position=_numbers(value, 'position', 3),  # type: ignore[arg-type]
            position_camera=_numbers(value, 'position_camera', 3),  # type: ignore[arg-type]
            size=_numbers(value, 'size', 3),  # type: ignore[arg-type]
        )

    def to_json(self) -> dict[str, Any]:
        """The object as plain JSON values."""
        return {
            'index': self.index,
            'name': self.name,
            'box': list(self.box),
            'area': self.area,
            'visible': self.visible,
            'position': list(self.position),
            'position_camera': list(self.position_camera),
            'size': list(self.size),
        }


@dataclass(frozen=True)
class SceneRecord:
    """One scene: its picture, its mask (8-bit, object index + 1) and its objects."""

    id: str
    split: str
    seed: int
    image: str
    mask: str
    width: int
    height: int
    camera: Mapping[str, Any]
    objects: tuple[ObjectRecord, ...]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SceneRecord:
        """Read one scene. Raises SceneRecordError where a field is missing or misshapen."""
        return cls(
            id=str(_field(value, 'id', (str, int))),
            split=str(_field(value, 'split', str)),
            seed=int(_field(value, 'seed', int)),
            image=str(_field(value, 'image', str)),
            mask=str(_field(value, 'mask', str)),
            width=int(_field(value, 'width', int)),
            height=int(_field(value, 'height', int)),
            camera=_field(value, 'camera', Mapping),
            objects=tuple(ObjectRecord.from_json(o) for o in _field(value, 'objects', list)),
        )

    def to_json(self) -> dict[str, Any]:
        """The scene as plain JSON values."""
        return {
            'id': self.id,
            'split': self.split,
            'seed': self.seed,
            'image': self.image,
            'mask': self.mask,
            'width': self.width,
            'height': self.height,
            'camera': dict(self.camera),
            'objects': [o.to_json() for o in self.objects],
        }

    def referable(self, item: ObjectRecord) -> bool:
        """Whether enough of `item` is seen to ask for it (the rest only distracts)."""
        least = MIN_VISIBLE_SHARE * self.width * self.height
        return item.visible >= MIN_VISIBLE_FRACTION and item.area >= least

    def mirrored(self) -> SceneRecord:
        """The scene of the picture flipped left to right (the world is mirrored with it)."""
        return replace(self, objects=tuple(_mirror(o) for o in self.objects))


def read_scenes(path: str | Path) -> Iterator[SceneRecord]:
    """Yield the scenes of a JSONL file. Raises SceneRecordError with file and line."""
    with open(path, encoding='utf-8') as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                yield SceneRecord.from_json(json.loads(line))
            except (json.JSONDecodeError, SceneRecordError) as error:
                raise SceneRecordError(f'{path}, line {number}: {error}') from error


def canonical_box(corners: Corners) -> Box:
    """The box of three decimals that answers hold: inside the image, at least 0.001 wide, high."""
    x1, x2 = _side(corners[0], corners[2])
    y1, y2 = _side(corners[1], corners[3])
    return Box(x1, y1, x2, y2)


def _side(low: float, high: float) -> tuple[float, float]:
    a, b = sorted((min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)))
    a, b = round(a, 3), round(b, 3)
    if b - a < 0.0005:
        a, b = (a, a + 0.001) if a < 0.9995 else (a - 0.001, a)
    return round(a, 3), round(b, 3)


def _mirror(item: ObjectRecord) -> ObjectRecord:
    x1, y1, x2, y2 = item.box
    x, y, z = item.position
    cx, cy, cz = item.position_camera
    return replace(
        item,
        box=(1.0 - x2, y1, 1.0 - x1, y2),
        position=(-x, y, z),
        position_camera=(-cx, cy, cz),
    )


def _field(value: Mapping[str, Any], key: str, types: Any) -> Any:
    if not isinstance(value, Mapping):
        raise SceneRecordError(f'a scene record must be a JSON object, not {value!r:.60}')
    if key not in value:
        raise SceneRecordError(f'field {key!r} is missing; render the scene again')
    if not isinstance(value[key], types) or isinstance(value[key], bool):
        raise SceneRecordError(f'field {key!r} has the value {value[key]!r:.60} of a wrong type')
    return value[key]


def _numbers(value: Mapping[str, Any], key: str, length: int) -> tuple[float, ...]:
    numbers = _field(value, key, list)
    if len(numbers) != length or not all(isinstance(n, (int, float)) for n in numbers):
        raise SceneRecordError(f'field {key!r} must hold {length} numbers, not {numbers!r:.60}')
    return tuple(float(n) for n in numbers)
