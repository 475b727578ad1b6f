"""Qwen2.5-VL and Qwen3-VL: JSON lists of `bbox_2d` and `label`.

Coordinates are [x1, y1, x2, y2], top left and bottom right.

- Qwen2.5-VL: absolute pixels of the image as the model sees it, that is after `smart_resize`: both
  sides multiples of 28, the area within min_pixels and max_pixels. Source: Qwen2.5-VL technical
  report (arXiv 2502.13923, section 2) and `smart_resize` in transformers' image_processing_qwen2_vl
  (there by default 56*56 and 28*28*1280; published checkpoints set 4*28*28 and 16384*28*28).
- Qwen3-VL: relative, 0 to 1000 over width and height, whatever the resizing. Source: README and
  spatial cookbooks of github.com/QwenLM/Qwen3-VL, issue 1741 there.

A transcript may stand in a fence, be followed by prose, or be cut off.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from unifiedmllm_ros.model.adapters.base import (
    BoxReader,
    FlawKind,
    Message,
    Size,
    Translation,
    clean_label,
    grouped,
    respond,
)
from unifiedmllm_ros.model.adapters.intent import read_intent
from unifiedmllm_ros.model.adapters.loose_json import Found, scan
from unifiedmllm_ros.model.protocol import Conversation
from unifiedmllm_ros.representation import TASKS, Part, Region, Response, TaskCall, parse

FACTOR = 28
MIN_PIXELS = 4 * FACTOR * FACTOR
MAX_PIXELS = 16384 * FACTOR * FACTOR
_RELATIVE = 1000
_BOX_KEYS = ('bbox_2d', 'bbox')
_LABEL_KEYS = ('label', 'name', 'phrase')
_TASK_KEYS = ('regions', 'boxes', 'objects')

_SYSTEM = """You are the perception of a robot. Answer in one short sentence where words are needed.
Wherever you speak of things in the image, give them as a JSON list:
[{"bbox_2d": [x1, y1, x2, y2], "label": "red mug"}]
One entry for each instance; an empty list [] where there is none.
If the user wants something done, write one JSON object for it instead:
{"task": NAME, "argument": TEXT, "regions": [entries as above]}
NAME is one of:
"""
_EXAMPLES = (
    (
        'segment the red mug',
        '{"task": "seg", "argument": "", "regions": ['
        '{"bbox_2d": [412, 203, 587, 441], "label": "red mug"}]}',
    ),
    (
        'take the can out of the picture',
        '{"task": "regedit", "argument": "remove the can", '
        '"regions": [{"bbox_2d": [100, 500, 215, 731], "label": "can"}]}',
    ),
    ('make a picture of a tidy desk', '{"task": "gen", "argument": "a tidy desk", "regions": []}'),
)


def smart_resize(
    image: Size,
    factor: int = FACTOR,
    min_pixels: int = MIN_PIXELS,
    max_pixels: int = MAX_PIXELS,
) -> Size:
    """Return the size to which the model's preprocessing brings an image.

    Sides become multiples of `factor`, the area at least min_pixels and at most max_pixels, the
    proportions nearly kept. The rule refuses ratios above 200; here they give the nearest size.
    """
    width = max(factor, round(image.width / factor) * factor)
    height = max(factor, round(image.height / factor) * factor)
    if width * height > max_pixels:
        scale = math.sqrt(image.width * image.height / max_pixels)
        width = max(factor, math.floor(image.width / scale / factor) * factor)
        height = max(factor, math.floor(image.height / scale / factor) * factor)
    elif width * height < min_pixels:
        scale = math.sqrt(min_pixels / (image.width * image.height))
        width = math.ceil(image.width * scale / factor) * factor
        height = math.ceil(image.height * scale / factor) * factor
    return Size(width, height)


@dataclass(frozen=True)
class QwenAdapter:
    """One of the two conventions.

    relative: 0-1000 (Qwen3-VL) instead of pixels of the resized image (Qwen2.5-VL).
    min_pixels, max_pixels: those of the checkpoint's preprocessor_config.json.
    """

    name: str
    relative: bool
    min_pixels: int = MIN_PIXELS
    max_pixels: int = MAX_PIXELS

    def resized(self, image: Size) -> Size:
        """Return the size in whose pixels the model speaks."""
        if self.relative:
            return Size(_RELATIVE, _RELATIVE)
        return smart_resize(image, FACTOR, self.min_pixels, self.max_pixels)

    def messages(self, conversation: Conversation, image: Size) -> tuple[Message, ...]:
        """System prompt with our tasks, the turns before, the question; see Adapter."""
        space = self.resized(image)
        tasks = '\n'.join(f'{spec.name}: {spec.description}' for spec in TASKS.values())
        examples = '\n'.join(f'{asked} -> {said}' for asked, said in _EXAMPLES)
        messages = [Message('system', f'{_SYSTEM}{tasks}\nExamples:\n{examples}')]
        for turn in conversation.history:
            messages.append(Message('user', turn.question, image=len(messages) == 1))
            messages.append(Message('assistant', write(parse(turn.answer)[0], space)))
        messages.append(Message('user', conversation.question, image=len(messages) == 1))
        return tuple(messages)

    def parse(
        self, text: str, image: Size, resized: Size | None = None, *, question: str = ''
    ) -> Translation:
        """Read JSON among prose; see Adapter."""
        space = self.resized(image)
        if resized is not None and not self.relative:
            space = resized
        return _Transcript(text, space).translate(question)


class _Transcript:
    """One answer on its way to a response."""

    def __init__(self, text: str, space: Size) -> None:
        # What a reasoning variant thinks aloud is no part of its answer.
        self._from = text.rfind('</think>') + len('</think>') if '</think>' in text else 0
        self._text = text
        self._space = space
        self._reader = BoxReader()

    def translate(self, question: str) -> Translation:
        parts: list[Part] = []
        regions: list[Region] = []
        calls: list[TaskCall] = []
        end = self._from
        for found in scan(self._text):
            if found.start < self._from or not _means_something(found.value):
                continue
            parts.append(_prose(self._text[end : found.start]))
            end = found.end
            self._take(found, regions, calls)
        parts.append(_prose(self._text[end:]))
        prose = ' '.join(piece for piece in parts if isinstance(piece, str) and piece)
        intent = read_intent(question)
        response = respond([prose, *grouped(regions), *calls], intent)
        return Translation(response, self._reader.close())

    def _take(self, found: Found, regions: list[Region], calls: list[TaskCall]) -> None:
        if not found.complete:
            excerpt = self._text[found.start : found.end]
            message = 'the JSON is cut off or broken; what was whole before that is kept'
            self._reader.report(FlawKind.TRUNCATED, found.start, excerpt, message)
        for entry in _entries(found.value):
            own = list(self._regions(entry, found))
            # Half an instruction must not be carried out: its regions are plain detections.
            if _names_task(entry) and found.complete:
                argument = entry.get('argument')
                said = clean_label(argument) if isinstance(argument, str) else ''
                calls.append(TaskCall(entry['task'], said, grouped(own)))
            else:
                regions.extend(own)

    def _regions(self, entry: dict[str, Any], found: Found) -> Iterator[Region]:
        for item in _boxed(entry):
            raw = next(item[key] for key in _BOX_KEYS if key in item)
            label = next((item[key] for key in _LABEL_KEYS if isinstance(item.get(key), str)), '')
            several = raw if isinstance(raw, list) and raw and isinstance(raw[0], list) else [raw]
            for corners in several:
                box = self._reader.read(self._fractions(corners), found.start, f'{corners}')
                if box is not None:
                    yield Region(clean_label(label), (box,))

    def _fractions(self, corners: Any) -> list[float]:
        numbers = corners if isinstance(corners, list) else []
        if len(numbers) != 4 or not all(type(value) is float for value in numbers):
            return []
        sides = (self._space.width, self._space.height) * 2
        return [value / side for value, side in zip(numbers, sides, strict=True)]


def write(response: Response, space: Size) -> str:
    """Write a response as the model itself would, for the turns before a question."""
    pieces: list[str] = [response.text.strip()]
    plain = [part for part in response.parts if isinstance(part, Region)]
    if plain:
        pieces.append(json.dumps(_listed(plain, space)))
    for call in response.calls:
        entry = {
            'task': call.task,
            'argument': call.argument,
            'regions': _listed(call.regions, space),
        }
        pieces.append(json.dumps(entry))
    return '\n'.join(piece for piece in pieces if piece)


def _listed(regions: tuple[Region, ...] | list[Region], space: Size) -> list[dict[str, Any]]:
    return [
        {'bbox_2d': [round(v) for v in box.pixels(space.width, space.height)], 'label': r.phrase}
        for r in regions
        for box in r.boxes
    ]


def _means_something(value: Any) -> bool:
    """Whether a piece of JSON is an answer: prose may hold brackets of its own."""
    return value in ([], {}) or any(True for _ in _entries(value))


def _entries(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if _names_task(value) or any(key in value for key in _BOX_KEYS):
            yield value
        else:
            for inner in value.values():
                yield from _entries(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _entries(inner)


def _names_task(entry: dict[str, Any]) -> bool:
    task = entry.get('task')
    return isinstance(task, str) and task in TASKS


def _boxed(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the objects with a box: the entry itself, or those that a task is about."""
    if any(key in entry for key in _BOX_KEYS):
        yield entry
        return
    for key in _TASK_KEYS:
        items = entry.get(key)
        for item in items if isinstance(items, list) else ():
            if isinstance(item, dict) and any(k in item for k in _BOX_KEYS):
                yield item


def _prose(text: str) -> str:
    for token in ('```json', '```JSON', '```', '<|im_end|>', '<|endoftext|>'):
        text = text.replace(token, ' ')
    valid = text.encode('utf-8', 'replace').decode('utf-8')
    return ' '.join(valid.split())
