"""Florence-2: task prompts in, location tokens `<loc_0>` to `<loc_999>` out.

A token n stands for the middle of bin n of 1000 along width or height: (n + 0.5) / 1000, x before
y. Boxes are x1, y1, x2, y2; polygons are x, y pairs, separated by `<sep>`, one object in `<poly>`.
Source: Florence-2 (arXiv 2311.06242, section 3.1) and Florence2PostProcessor.dequantize in
transformers' processing_florence2, where also the sentences of the task prompts come from.

The family knows tasks, not conversations: turns before the question are not sent.
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
    grouped,
    respond,
)
from unifiedmllm_ros.model.adapters.intent import Intent, Wish, read_intent
from unifiedmllm_ros.model.adapters.tokens import readable, without_control
from unifiedmllm_ros.model.protocol import Conversation
from unifiedmllm_ros.representation import Box, Part, Region

BINS = 1000
_RUN = re.compile(r'(?:<loc_[0-9]{1,9}>|<sep>|</?poly>)+')
_LOC = re.compile(r'<loc_([0-9]{1,9})>')
_TAG = re.compile(r'</?(?:od|box|bbox|ground|obj|and|sep|poly)>')
_CUT = re.compile(r'<(?:l|lo|loc|loc_[0-9]{0,9})?$')


@dataclass(frozen=True)
class Florence2Adapter:
    """Phrase grounding, open detection and referring segmentation."""

    name: str = 'florence2'

    def messages(self, conversation: Conversation, image: Size) -> tuple[Message, ...]:
        """Return the one sentence that the task is trained with; see Adapter."""
        intent = read_intent(conversation.question)
        return (Message('user', task_prompt(intent, conversation.question), image=True),)

    def parse(
        self, text: str, image: Size, resized: Size | None = None, *, question: str = ''
    ) -> Translation:
        """Read phrases and location tokens; see Adapter. Sizes are not needed."""
        intent = read_intent(question)
        reader = BoxReader()
        text = without_control(text)
        parts: list[Part] = []
        end = 0
        for run in _RUN.finditer(text):
            phrase = clean_label(_TAG.sub('', text[end : run.start()]))
            end = run.end()
            boxes = _boxes(run, bool(intent.wants_masks or '<poly>' in run[0]), reader)
            if boxes:
                parts.append(Region(phrase or _asked(intent, parts), boxes))
            elif phrase:
                parts.append(phrase)
        tail = text[end:].rstrip()
        if cut := _CUT.search(tail):
            reader.report(FlawKind.TRUNCATED, end, tail, 'the answer is cut off in a token')
            tail = tail[: cut.start()]
        rest = readable(_TAG.sub('', tail)).strip()
        regions = grouped([part for part in parts if isinstance(part, Region)])
        prose = ' '.join(part for part in [*parts, rest] if isinstance(part, str) and part)
        return Translation(respond([prose, *regions], intent), reader.close())


def task_prompt(intent: Intent, question: str) -> str:
    """Return the sentence that asks for what the operator wants."""
    if intent.wish is Wish.MASKS:
        return f'Locate {", ".join(intent.phrases)} in the image with mask'
    if intent.wish is Wish.BOXES and len(intent.phrases) == 1:
        return f'Locate {intent.phrases[0]} in the image.'
    if intent.wish is Wish.BOXES:
        return f'Locate the phrases in the caption: {", ".join(intent.phrases)}'
    if intent.wish is Wish.CAPTION:
        return 'Describe in detail what is shown in the image.'
    return question


def _boxes(run: re.Match[str], outlines: bool, reader: BoxReader) -> tuple[Box, ...]:
    if outlines:
        objects = re.split(r'</?poly>', run[0])
        found = [_outline_box(piece, run.start(), reader) for piece in objects if '<loc' in piece]
        return tuple(box for box in found if box is not None)
    numbers = [int(match[1]) for match in _LOC.finditer(run[0])]
    whole = len(numbers) - len(numbers) % 4
    if whole < len(numbers):
        message = f'{len(numbers)} location tokens are not boxes of four; the rest was dropped'
        reader.report(FlawKind.TRUNCATED, run.start(), run[0], message)
    boxes = []
    for start in range(0, whole, 4):
        corners = [_middle(number) for number in numbers[start : start + 4]]
        boxes.append(reader.read(corners, run.start(), run[0]))
    return tuple(box for box in boxes if box is not None)


def _outline_box(tokens: str, position: int, reader: BoxReader) -> Box | None:
    """Return the box around the polygons of one object; masks come from the expert."""
    numbers = [int(match[1]) for match in _LOC.finditer(tokens)]
    if len(numbers) % 2:
        reader.report(FlawKind.TRUNCATED, position, tokens, 'a point of the outline lacks its y')
        numbers.pop()
    if not numbers:
        return None
    xs = [_middle(number) for number in numbers[0::2]]
    ys = [_middle(number) for number in numbers[1::2]]
    return reader.read((min(xs), min(ys), max(xs), max(ys)), position, tokens)


def _middle(number: int) -> float:
    return (number + 0.5) / BINS


def _asked(intent: Intent, parts: list[Part]) -> str:
    """Referring segmentation repeats no phrase: it is the one that was asked for."""
    return ', '.join(intent.phrases) if not any(isinstance(p, Region) for p in parts) else ''
