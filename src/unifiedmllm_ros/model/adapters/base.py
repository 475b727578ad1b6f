"""What every adapter has in common: messages in, a transcript out, and what was wrong with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from unifiedmllm_ros.model.adapters.intent import Intent
from unifiedmllm_ros.model.protocol import Conversation
from unifiedmllm_ros.representation import Box, Part, Region, Response, TaskCall

MAX_BOXES = 256
"""Most boxes of one answer; a model that repeats itself can write thousands."""
MAX_LABEL = 200
NOTHING = 'Nothing found.'
_EXCERPT = 80


@dataclass(frozen=True)
class Size:
    """An image's width and height in pixels, 1 or more each."""

    width: int
    height: int


@dataclass(frozen=True)
class Message:
    """One chat message; `role` is system, user or assistant. `image`: the image goes before it."""

    role: str
    text: str
    image: bool = False


class FlawKind(Enum):
    """What can be wrong with a transcript."""

    TRUNCATED = 'truncated'
    MALFORMED = 'malformed'
    OUT_OF_RANGE = 'out_of_range'
    DEGENERATE = 'degenerate'
    TOO_MANY = 'too_many'


@dataclass(frozen=True)
class Flaw:
    """One thing that is wrong with a transcript.

    position: index of its first character. text: the piece it is about, at most 80 characters.
    """

    kind: FlawKind
    position: int
    text: str
    message: str


@dataclass(frozen=True)
class Translation:
    """A transcript as a response, and what was wrong with it in the order of discovery."""

    response: Response
    flaws: tuple[Flaw, ...] = ()


class Adapter(Protocol):
    """Translates between a conversation and one family of models; stateless."""

    @property
    def name(self) -> str:
        """The family's name in configurations."""
        ...

    def messages(self, conversation: Conversation, image: Size) -> tuple[Message, ...]:
        """Return what to send for a question about an image of this size."""
        ...

    def parse(
        self, text: str, image: Size, resized: Size | None = None, *, question: str = ''
    ) -> Translation:
        """Read what the model wrote; never raises for any text.

        image: the size given to the model's own preprocessing. resized: what that made of it,
        where it is known to differ from the family's rule. question: the instruction, which
        tells whether masks are wanted.
        """
        ...


class BoxReader:
    """Makes boxes of what models write: clamps, drops, counts, and keeps note of it."""

    def __init__(self) -> None:
        self.flaws: list[Flaw] = []
        self._seen = 0
        self._first_extra = 0

    def read(
        self,
        corners: Sequence[float],
        position: int,
        text: str,
        confidence: float | None = None,
    ) -> Box | None:
        """Return the box of (x1, y1, x2, y2) in fractions of the image, or None.

        Corners outside [0, 1] are clamped, boxes without area (to three decimals) dropped, and so
        is each box after the first MAX_BOXES.
        """
        self._seen += 1
        if self._seen > MAX_BOXES:
            self._first_extra = self._first_extra or position
            return None
        if len(corners) != 4 or not all(math.isfinite(value) for value in corners):
            self.report(FlawKind.MALFORMED, position, text, 'a box is four numbers')
            return None
        clamped = [min(1.0, max(0.0, value)) for value in corners]
        # Half a unit of the third decimal is no news: it disappears when the box is written.
        if any(abs(a - b) > 0.0005 for a, b in zip(clamped, corners, strict=True)):
            self.report(
                FlawKind.OUT_OF_RANGE, position, text, 'the box leaves the image; it was clamped'
            )
        x1, y1, x2, y2 = (round(value, 3) for value in clamped)
        if x1 >= x2 or y1 >= y2:
            self.report(FlawKind.DEGENERATE, position, text, 'the box has no area; it was dropped')
            return None
        return Box(x1, y1, x2, y2, confidence)

    def report(self, kind: FlawKind, position: int, text: str, message: str) -> None:
        """Keep note of a flaw."""
        self.flaws.append(Flaw(kind, position, text[:_EXCERPT], message))

    def close(self) -> tuple[Flaw, ...]:
        """Return all flaws."""
        if self._seen > MAX_BOXES:
            message = f'the answer has {self._seen} boxes; those after {MAX_BOXES} were dropped'
            self.report(FlawKind.TOO_MANY, self._first_extra, '', message)
            self._seen = 0
        return tuple(self.flaws)


def clean_label(label: str) -> str:
    """Return a model's label on one line, as valid Unicode, at most 200 characters.

    Markers in it stay: writing the response escapes them.
    """
    valid = label.encode('utf-8', 'replace').decode('utf-8')
    return ' '.join(''.join(c if c.isprintable() else ' ' for c in valid).split())[:MAX_LABEL]


def grouped(regions: Sequence[Region]) -> tuple[Region, ...]:
    """Join regions of the same phrase, in the order of their first appearance."""
    boxes: dict[str, list[Box]] = {}
    for region in regions:
        boxes.setdefault(region.phrase, []).extend(region.boxes)
    return tuple(Region(phrase, tuple(found)) for phrase, found in boxes.items())


def respond(parts: Sequence[Part], intent: Intent) -> Response:
    """Put an answer together: regions become a `seg` call where the operator wants masks.

    Where a family's format has no words for it, an answer without any content says so.
    """
    kept = list(parts)
    regions = [part for part in parts if isinstance(part, Region)]
    if intent.wants_masks and regions and not any(isinstance(p, TaskCall) for p in parts):
        kept = [part for part in parts if not isinstance(part, Region)]
        kept.append(TaskCall('seg', '', grouped(regions)))
    if not any(part.strip() if isinstance(part, str) else True for part in kept):
        return Response((NOTHING,))
    return Response(tuple(kept))
