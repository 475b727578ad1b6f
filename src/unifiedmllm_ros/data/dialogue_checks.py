"""What a dialogue must fulfil, whoever wrote it; each reason to reject has a name."""

from __future__ import annotations

from collections.abc import Sequence

from unifiedmllm_ros.data.grounding import GroundedImage
from unifiedmllm_ros.data.writer import Exchange
from unifiedmllm_ros.representation import MARKERS, Box, Region, Response, TaskCall, parse

TOLERANCE = 0.0021
"""How far a coordinate may be from that of a box that exists."""
LONGEST = 400
"""Characters of a question."""
GENERIC = frozenset({'object', 'thing', 'item', 'target'})
FILLERS = frozenset({'the', 'a', 'an', 'of', 'with', 'and', 'in', 'on', 'left', 'right', 'one'})


def fault(image: GroundedImage, exchanges: Sequence[Exchange], fewest: int = 2) -> str:
    """The reason to reject a dialogue, '' where there is none.

    Every answer must parse without a problem; every box must be one of the picture's, under a
    phrase that shares a word with its name, or one that an earlier turn added; boxes of layouts
    and of things just added need not exist. A dialogue of pictures must speak of the picture, or
    call a task.
    """
    if len(exchanges) < fewest:
        return 'too few turns'
    known = [(t.canonical, _words(' '.join((t.phrase, *t.names)))) for t in image.things]
    used = False
    for question, answer in exchanges:
        if not question.strip() or len(question) > LONGEST:
            return 'question empty or too long'
        if any(marker in question for marker in MARKERS):
            return 'marker in a question'
        if not answer.strip():
            return 'empty answer'
        response, problems = parse(answer)
        if problems:
            return f'answer does not parse: {problems[0].kind.value}'
        used = used or bool(response.regions or response.calls)
        reason = _misplaced(response, known)
        if reason:
            return reason
    return '' if used else 'neither a box nor a task'


def _misplaced(response: Response, known: list[tuple[Box, frozenset[str]]]) -> str:
    for part in response.parts:
        regions = part.regions if isinstance(part, TaskCall) else (part,)
        for region in regions:
            if not isinstance(region, Region):
                continue
            if isinstance(part, TaskCall) and part.task == 'layout':
                continue
            if isinstance(part, TaskCall) and _is_addition(part):
                if any(overlap(box, other) > 0.5 for box in region.boxes for other, _ in known):
                    return 'added on top of something'
                known += [(box, _words(region.phrase)) for box in region.boxes]
                continue
            reason = _unknown(region, known)
            if reason:
                return reason
            if isinstance(part, TaskCall) and part.task == 'regedit':
                # What is painted or replaced may be called by its new name from now on.
                words = _words(part.argument)
                known += [(box, words) for box in region.boxes]
    return ''


def _unknown(region: Region, known: list[tuple[Box, frozenset[str]]]) -> str:
    said = _words(region.phrase)
    for box in region.boxes:
        names = [words for other, words in known if _same(box, other)]
        if not names:
            return 'box does not exist'
        if said and not said & GENERIC and not any(said & words for words in names):
            return 'phrase does not name its box'
    return ''


def _is_addition(call: TaskCall) -> bool:
    word = call.argument.split(' ', 1)[0].lower()
    return call.task == 'regedit' and word in ('add', 'put', 'place', 'insert', 'draw')


def _same(a: Box, b: Box) -> bool:
    pairs = zip(a.corners, b.corners, strict=True)
    return all(abs(one - other) <= TOLERANCE for one, other in pairs)


def overlap(a: Box, b: Box) -> float:
    """Share of `a` that lies in `b`."""
    width = min(a.x2, b.x2) - max(a.x1, b.x1)
    height = min(a.y2, b.y2) - max(a.y1, b.y1)
    return max(width, 0.0) * max(height, 0.0) / ((a.x2 - a.x1) * (a.y2 - a.y1))


def _words(phrase: str) -> frozenset[str]:
    """Words that name something, plurals as singulars."""
    words = (word.strip('.,;:!?\'"').lower() for word in phrase.split())
    return frozenset(w[:-1] if w.endswith('s') and len(w) > 3 else w for w in words) - FILLERS
