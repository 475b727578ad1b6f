"""Kosmos-2: phrases and pairs of `<patch_index_0000>` to `<patch_index_1023>` on a 32x32 grid.

`<phrase> a snowman</phrase><object><patch_index_0044><patch_index_0863></object>`: the patches of
the top left and the bottom right corner, row by row; several boxes of a phrase are separated by
`</delimiter_of_multi_objects/>`. A corner is the middle of its patch, but where both patches lie in
one row or column the box covers them whole. Source: Kosmos-2 (arXiv 2306.14824, section 2) and
patch_index_to_coordinate in transformers' processing_kosmos2.

The family completes text: turns before the question are not sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from unifiedmllm_ros.model.adapters.base import (
    BoxReader,
    FlawKind,
    Message,
    Size,
    Translation,
    clean_label,
    respond,
)
from unifiedmllm_ros.model.adapters.intent import Intent, Wish, read_intent
from unifiedmllm_ros.model.adapters.tokens import readable, without_control
from unifiedmllm_ros.model.protocol import Conversation
from unifiedmllm_ros.representation import Part, Region

GRID = 32
_LAST = GRID * GRID - 1
_PATCH = r'<patch_index_([0-9]{1,9})>'
_INDEX = re.compile(_PATCH)
_OBJECT = re.compile(
    r'(?:<phrase>([^<]*)</phrase>)?<object>((?:<patch_index_[0-9]{1,9}>|'
    r'</delimiter_of_multi_objects/>)*)(</object>)?'
)
_TAG = re.compile(
    r'</?(?:grounding|phrase|object|image)>|</delimiter_of_multi_objects/>|<patch_index_[0-9]{0,9}>?'
)

_CUT = re.compile(r'</?(?:[a-z_]{1,30}[0-9]{0,9})?')


@dataclass(frozen=True)
class Kosmos2Adapter:
    """Grounded captions, grounded answers, phrases."""

    name: str = 'kosmos2'

    def messages(self, conversation: Conversation, image: Size) -> tuple[Message, ...]:
        """Return the beginning that the model is to complete; see Adapter."""
        intent = read_intent(conversation.question)
        return (Message('user', opening(intent, conversation.question), image=True),)

    def parse(
        self, text: str, image: Size, resized: Size | None = None, *, question: str = ''
    ) -> Translation:
        """Read phrases with their patches, prose between them; see Adapter. Needs no sizes."""
        intent = read_intent(question)
        reader = BoxReader()
        text = without_control(text)
        parts: list[Part] = []
        end = 0
        for match in _OBJECT.finditer(text):
            parts.append(_words(text[end : match.start()]))
            parts.append(_region(match, reader))
            end = match.end()
        tail = text[end:].rstrip()
        if '<' in tail and _CUT.fullmatch(tail, tail.rfind('<')):
            reader.report(FlawKind.TRUNCATED, end, tail, 'the answer is cut off in a token')
            tail = tail[: tail.rfind('<')]
        parts.append(_words(tail))
        parts = _trimmed(parts)
        return Translation(respond(parts, intent), reader.close())


def opening(intent: Intent, question: str) -> str:
    """Return the prompt; user text holds no tag, because `<` is taken out."""
    if intent.wish in (Wish.MASKS, Wish.BOXES):
        phrases = ''.join(f'<phrase> {_untagged(p)}</phrase>' for p in intent.phrases)
        return f'<grounding>{phrases}'
    if intent.wish is Wish.CAPTION:
        return '<grounding> Describe this image in detail:'
    return f'<grounding> Question: {_untagged(question)} Answer:'


def corners(first: int, last: int) -> tuple[float, float, float, float]:
    """Return x1, y1, x2, y2 in fractions for the patches of two corners."""
    (y1, x1), (y2, x2) = divmod(first, GRID), divmod(last, GRID)
    if x1 == x2 or y1 == y2:
        return x1 / GRID, y1 / GRID, (x2 + 1) / GRID, (y2 + 1) / GRID
    return (x1 + 0.5) / GRID, (y1 + 0.5) / GRID, (x2 + 0.5) / GRID, (y2 + 0.5) / GRID


def _region(match: re.Match[str], reader: BoxReader) -> Region | str:
    phrase = clean_label(match[1] or '')
    if match[3] is None:
        reader.report(FlawKind.TRUNCATED, match.start(), match[0], 'an object is not closed')
    boxes = []
    for pair in match[2].split('</delimiter_of_multi_objects/>'):
        indices = [int(index) for index in _INDEX.findall(pair)]
        if len(indices) != 2:
            message = f'{len(indices)} patch indices where a box has two'
            reader.report(FlawKind.MALFORMED, match.start(), match[0], message)
            continue
        if max(indices) > _LAST:
            message = f'patch index {max(indices)} is beyond {_LAST}; it was clamped'
            reader.report(FlawKind.OUT_OF_RANGE, match.start(), match[0], message)
        place = corners(*(min(index, _LAST) for index in indices))
        boxes.append(reader.read(place, match.start(), match[0]))
    kept = tuple(box for box in boxes if box is not None)
    return Region(phrase, kept) if kept else phrase


def _words(text: str) -> str:
    return readable(_TAG.sub('', text))


def _untagged(text: str) -> str:
    return text.replace('<', ' ').replace('>', ' ')


def _trimmed(parts: list[Part]) -> list[Part]:
    kept = [part for part in parts if part]
    if kept and isinstance(kept[0], str):
        kept[0] = kept[0].lstrip()
    if kept and isinstance(kept[-1], str):
        kept[-1] = kept[-1].rstrip()
    return [part for part in kept if part]
