"""Pictures with what is known to be in them: the ground on which dialogues are written.

Sources: the records of rendered tables, a JSON Lines file of boxes (ground truth of whatever kind,
or what a detector found), and the boxes that any conversations hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from unifiedmllm_ros.data.conversation import read_conversations
from unifiedmllm_ros.errors import UnifiedMLLMError
from unifiedmllm_ros.representation import Box, parse
from unifiedmllm_ros.tabletop.lexicon import default_lexicon
from unifiedmllm_ros.tabletop.record import SceneRecord, canonical_box, read_scenes

_IMAGINED = ('layout', 'regedit')
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class GroundingError(UnifiedMLLMError):
    """A file of boxes that does not hold up; the message names file, line and field."""

    code = 'invalid_grounding'


class Thing(BaseModel):
    """One thing in a picture: what it is called, and (x1, y1, x2, y2) in [0, 1].

    names: what else it may be called. score: of the detector that found it.
    """

    model_config = ConfigDict(extra='forbid', frozen=True)

    phrase: str = Field(min_length=1)
    box: tuple[Fraction, Fraction, Fraction, Fraction]
    names: tuple[str, ...] = ()
    score: float | None = Field(default=None, ge=0.0, le=1.0)

    @field_validator('phrase')
    @classmethod
    def _words(cls, value: str) -> str:
        words = ' '.join(value.split())
        if not words or any(mark in words for mark in '<>&'):
            raise ValueError(f'{value!r} is no phrase: plain words')
        return words

    @field_validator('box')
    @classmethod
    def _has_area(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if value[0] >= value[2] or value[1] >= value[3]:
            raise ValueError(f'{value} has no area: x1 < x2, y1 < y2')
        return value

    @property
    def canonical(self) -> Box:
        """The box as answers write it."""
        return canonical_box(self.box)


class GroundedImage(BaseModel):
    """A picture, named from the folder of the data, and its things.

    `scene` is the record of a rendered table: then everything that is there is known.
    """

    model_config = ConfigDict(extra='forbid', frozen=True, arbitrary_types_allowed=True)

    image: str = Field(min_length=1)
    things: tuple[Thing, ...]
    scene: SceneRecord | None = Field(default=None, exclude=True)

    @field_validator('image')
    @classmethod
    def _below(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or '..' in path.parts or '\\' in value:
            raise ValueError(f'{value!r} must be a path below the folder of the file')
        return value


def from_scenes(path: Path) -> Iterator[GroundedImage]:
    """The scenes of a scenes.jsonl; things that are hardly seen have no part. SceneRecordError."""
    entries = default_lexicon().entries
    for scene in read_scenes(path):
        things = tuple(
            Thing(
                phrase=entries[item.name].short,
                box=canonical_box(item.box).corners,
                names=(*entries[item.name].terms, entries[item.name].colour),
            )
            for item in scene.objects
            if scene.referable(item)
        )
        yield GroundedImage(image=scene.image, things=things, scene=scene)


def from_boxes(path: Path) -> Iterator[GroundedImage]:
    """The lines of a JSONL file: {"image": ..., "things": [{"phrase": ..., "box": [...]}]}.

    Raises GroundingError with file, line and field.
    """
    try:
        with open(path, encoding='utf-8') as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _read(line, f'{path}, line {number}')
    except (OSError, UnicodeDecodeError) as error:
        raise GroundingError(f'{path}: cannot be read: {error}') from error


def from_conversations(path: Path) -> Iterator[GroundedImage]:
    """The boxes that conversations hold, image by image, in the order of the images.

    Boxes of layouts and of things to be added are not in the picture and are left out. Raises
    ConversationError.
    """
    found: dict[str, dict[tuple[str, Box], None]] = {}
    for conversation in read_conversations(path):
        if conversation.image is None:
            continue
        here = found.setdefault(conversation.image, {})
        for _, answer in conversation.exchanges():
            response, _ = parse(answer)
            gone = {id(r) for c in response.calls if c.task in _IMAGINED for r in c.regions}
            for region in response.regions:
                if id(region) not in gone:
                    here |= {(region.phrase, box): None for box in region.boxes}
    for image, things in found.items():
        listed = tuple(Thing(phrase=phrase, box=box.corners) for phrase, box in things)
        yield GroundedImage(image=image, things=listed)


def write_boxes(path: Path, images: Iterable[GroundedImage]) -> int:
    """Write a JSONL file that `from_boxes` reads; returns the number of lines."""
    partial, count = path.with_name(f'{path.name}.part'), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(partial, 'w', encoding='utf-8') as lines:
        for image in images:
            lines.write(
                json.dumps(image.model_dump(exclude_defaults=True), ensure_ascii=False) + '\n'
            )
            count += 1
    partial.replace(path)
    return count


def _read(line: str, place: str) -> GroundedImage:
    try:
        return GroundedImage.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        field = '.'.join(str(part) for part in first['loc']) or 'the line'
        raise GroundingError(f'{place}, field {field}: {first["msg"]}') from error
