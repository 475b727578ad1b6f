"""PaliGemma and PaliGemma 2: `<loc0000>` to `<loc1023>`, y before x, then `<seg000>` to `<seg127>`.

A box is `<locY1><locX1><locY2><locX2> label`, several separated by ` ; `; a token n stands for
n / 1024 of height or width. With `segment` 16 seg tokens follow, codes of a VQ-VAE mask of the box;
they are recognised and left to our own segmentation expert. Source: PaliGemma (arXiv 2407.07726,
section 3), README of big_vision's paligemma project, ai.google.dev/gemma/docs/paligemma for the
prompts (`detect a ; b`, `segment a ; b`, `answer en question`, `caption en`, each with a newline).

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
from unifiedmllm_ros.representation import Part, Region

BINS = 1024
CODES = 16
_LOC = re.compile(r'<loc([0-9]{1,9})>')
_SEG = re.compile(r'<seg[0-9]{1,9}>')
_CUT = re.compile(r'<(?:loc|seg)?[0-9]{0,9}\s*$|<(?:lo?|se?)\s*$')


@dataclass(frozen=True)
class PaliGemmaAdapter:
    """Detection and segmentation by phrases, short answers to questions."""

    name: str = 'paligemma'

    def messages(self, conversation: Conversation, image: Size) -> tuple[Message, ...]:
        """Return the task prompt; see Adapter."""
        intent = read_intent(conversation.question)
        return (Message('user', task_prompt(intent, conversation.question), image=True),)

    def parse(
        self, text: str, image: Size, resized: Size | None = None, *, question: str = ''
    ) -> Translation:
        """Read `loc loc loc loc [seg...] label ; ...`; see Adapter. Sizes are not needed."""
        intent = read_intent(question)
        reader = BoxReader()
        text = without_control(text)
        regions: list[Region] = []
        prose: list[Part] = []
        start = 0
        for piece in text.split(';') if _LOC.search(text) else [text]:
            _read_piece(piece, start, reader, regions, prose)
            start += len(piece) + 1
        words = ' '.join(part for part in prose if isinstance(part, str))
        return Translation(respond([words, *grouped(regions)], intent), reader.close())


def task_prompt(intent: Intent, question: str) -> str:
    """Return the prompt for what the operator wants, with its newline."""
    phrases = ' ; '.join(intent.phrases)
    prompts = {
        Wish.MASKS: f'segment {phrases}\n',
        Wish.BOXES: f'detect {phrases}\n',
        Wish.CAPTION: 'caption en\n',
        Wish.ANSWER: f'answer en {question}\n',
    }
    return prompts[intent.wish]


def _read_piece(
    piece: str, start: int, reader: BoxReader, regions: list[Region], prose: list[Part]
) -> None:
    numbers = [int(match[1]) for match in _LOC.finditer(piece)]
    cut = _CUT.search(piece)
    label = clean_label(_CUT.sub('', _SEG.sub(' ', _LOC.sub(' ', piece))))
    if not numbers:
        if cut:
            reader.report(FlawKind.TRUNCATED, start, piece, 'the answer is cut off in a token')
        elif label:
            prose.append(readable(piece).strip())
        return
    codes = len(_SEG.findall(piece))
    if cut or len(numbers) < 4 or codes not in (0, CODES):
        message = f'{len(numbers)} location, {codes} mask tokens: a part of the object is missing'
        reader.report(FlawKind.TRUNCATED, start, piece, message)
    if len(numbers) > 4:
        reader.report(FlawKind.MALFORMED, start, piece, 'more than four location tokens')
    if len(numbers) >= 4:
        y1, x1, y2, x2 = (number / BINS for number in numbers[:4])
        box = reader.read((x1, y1, x2, y2), start, piece)
        if box is not None:
            regions.append(Region(label, (box,)))
