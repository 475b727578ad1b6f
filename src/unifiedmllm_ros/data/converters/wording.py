"""Questions and answers in our format: wordings, regions from pixels, conversations."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from unifiedmllm_ros.data.conversation import Conversation, Turn
from unifiedmllm_ros.data.converters.rows import Rejected, sound
from unifiedmllm_ros.errors import RepresentationError
from unifiedmllm_ros.representation import Box, Part, Response, format

CAPTION_IMAGE = ('Describe the image.', 'What is in the image?', 'Give a caption of this image.')
CAPTION_VIDEO = ('Describe the video.', 'What happens in the video?', 'Caption this video.')
CAPTION_AUDIO = ('Describe the sound.', 'What can be heard?', 'Give a caption of this sound.')
MAKE_IMAGE = ('Make an image: {}', 'Draw this: {}', 'Generate a picture of: {}')
MAKE_VIDEO = ('Make a video: {}', 'Generate a clip of: {}', 'I want a video of this: {}')
MAKE_SOUND = ('Make a sound: {}', 'Generate audio of: {}', 'Let me hear this: {}')
SEGMENT = ('segment {}', 'give me a mask of {}', 'Please segment {}.')
GROUND = ('find {}', 'where is {}?', 'Give the box of {}.')
LAYOUT = ('Place the things of this image: {}', 'Lay out: {}', 'Make an image with a layout: {}')

Exchange = tuple[str, Sequence[Part]]


def pick(wordings: Sequence[str], key: str) -> str:
    """One of the wordings, always the same for a key."""
    return wordings[zlib.crc32(key.encode()) % len(wordings)]


def pixel_box(corners: Sequence[float], width: float, height: float) -> Box:
    """A box from (left, top, right, bottom) in pixels; what leaves the image is cut off.

    Raises Rejected where nothing of it is left at three decimals, or the numbers are none.
    """
    values = [float(v) for v in corners if isinstance(v, int | float) and math.isfinite(v)]
    if len(values) != 4 or min(width, height) <= 0:
        raise Rejected('box is not four numbers in an image with a size')
    sides = (width, height, width, height)
    try:
        return Box(*(min(max(v / side, 0.0), 1.0) for v, side in zip(values, sides, strict=True)))
    except RepresentationError as error:
        raise Rejected('box has no area inside the image') from error


def points_box(points: object, width: float, height: float) -> Box:
    """The box around [[x, y], ...] in pixels. Raises Rejected for anything else."""
    try:
        xs, ys = zip(*[(float(x), float(y)) for x, y in points], strict=True)  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise Rejected('polygon is not a list of points') from error
    return pixel_box((min(xs), min(ys), max(xs), max(ys)), width, height)


def conversation(
    id: str,
    kind: str,
    exchanges: Sequence[Exchange],
    media: Mapping[str, str] | None = None,
    targets: Mapping[str, Any] | None = None,
) -> Conversation:
    """A conversation of (question, parts of the answer) pairs."""
    turns: list[Turn] = []
    for question, parts in exchanges:
        turns.append(Turn(role='user', text=question))
        turns.append(Turn(role='assistant', text=format(Response(tuple(parts)))))
    _check_storable(targets)
    return Conversation(
        id=id, kind=kind, turns=tuple(turns), targets=dict(targets or {}), **dict(media or {})
    )


def _check_storable(targets: Mapping[str, Any] | None) -> None:
    """Raise Rejected for infinite numbers and broken text: a line of JSON cannot hold them."""
    try:
        sound(json.dumps(targets, ensure_ascii=False, allow_nan=False))
    except ValueError as error:
        raise Rejected('annotation holds a number that is none') from error
