"""Layouts from sentences about table things: how many of what, and where they are to stand.

The sentence settles everything: the boxes of a layout follow from its classes, numbers and
relation alone, so that an answer can be learnt and checked. Classes come in the order of the
sentence, their boxes row by row from left to right. No two boxes overlap, and each has the
proportions that its class has on the rendered table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from unifiedmllm_ros.evaluation.nsr1k import mentioned_class
from unifiedmllm_ros.representation import Box, Region, Response, TaskCall
from unifiedmllm_ros.tabletop.asked import Arrangement, Asked
from unifiedmllm_ros.tabletop.lexicon import article, plural
from unifiedmllm_ros.tabletop.referring import View
from unifiedmllm_ros.tabletop.task_phrasings import PLACES
from unifiedmllm_ros.tabletop.task_words import COLOURS, held_out
from unifiedmllm_ros.tabletop.wording import draw

SIZES: dict[str, tuple[float, float]] = {
    'basket': (0.23, 0.34),
    'book': (0.11, 0.19),
    'bottle': (0.06, 0.19),
    'bowl': (0.09, 0.09),
    'box': (0.07, 0.10),
    'can': (0.08, 0.13),
    'carton': (0.09, 0.18),
    'cylinder': (0.07, 0.12),
    'moka pot': (0.12, 0.21),
    'mug': (0.12, 0.16),
    'pan': (0.26, 0.21),
    'plate': (0.14, 0.11),
    'ramekin': (0.09, 0.10),
    'tray': (0.24, 0.41),
}
"""Median width and height of each class in the rendered pictures, as shares of the picture."""

MOST = 6
"""Boxes of one layout at most; four of one class."""
FILL, LARGEST_SCALE = 0.85, 2.2
_WORDS = ('', 'one', 'two', 'three', 'four')
_OPPOSITE = {
    'left of': 'right of',
    'right of': 'left of',
    'above': 'below',
    'below': 'above',
}


@dataclass(frozen=True)
class Group:
    """Some things of one class: `kind` for its proportions, `name` as it is called."""

    kind: str
    name: str
    number: int

    @property
    def noun(self) -> str:
        return self.name if self.number == 1 else plural(self.name)


def layout(view: View, rng: Random, split: str) -> Asked | None:
    """A sentence of one to three classes, with a relation or with numbers alone."""
    while True:
        groups = _groups(rng)
        relation = rng.choice(tuple(PLACES)) if len(groups) > 1 and rng.random() < 0.65 else ''
        if len(groups) == 3 and relation == 'next to':
            continue
        if _unseen(groups) == (split == 'test'):
            break
    prompt = _sentence(groups, relation, rng, split)
    rows = placed(groups, relation)
    regions = tuple(
        Region(group.name, boxes) for group, boxes in zip(groups, boxes_of(rows), strict=True)
    )
    answer = Response((TaskCall('layout', prompt, regions),))
    facts = Arrangement(tuple((g.name, g.number) for g in groups), stated(groups, relation))
    return Asked('layout', {'p': prompt}, task='layout', relation=relation, answer=answer,
                 arrangement=facts)  # fmt: skip


def stated(groups: Sequence[Group], relation: str) -> tuple[tuple[str, str, str], ...]:
    """What the sentence says of places: (class, relation, class)."""
    if not relation:
        return ()
    first, second, *third = groups
    said = [(first.name, relation, second.name)]
    return tuple(said + [(g.name, _OPPOSITE[relation], second.name) for g in third])


def placed(groups: Sequence[Group], relation: str) -> list[list[tuple[int, str]]]:
    """Rows, from the top, of what stands in each from the left: (number of the group, kind)."""
    things = [[(n, g.kind)] * g.number for n, g in enumerate(groups)]
    if relation in ('above', 'below'):
        return things if relation == 'above' else things[::-1]
    if relation == 'right of':
        things = things[::-1]
    line = [thing for group in things for thing in group]
    if relation or len(line) <= 4:
        return [line]
    half = (len(line) + 1) // 2
    return [line[:half], line[half:]]


def boxes_of(rows: Sequence[Sequence[tuple[int, str]]]) -> list[tuple[Box, ...]]:
    """The boxes of each group: every thing in the middle of its place, as large as fits."""
    found: dict[int, list[Box]] = {}
    for number, row in enumerate(rows):
        middle = (number + 0.5) / len(rows)
        for place, (group, kind) in enumerate(row):
            width, height = SIZES[kind]
            scale = min(FILL / len(row) / width, FILL / len(rows) / height, LARGEST_SCALE)
            x, half_width, half_height = (
                (place + 0.5) / len(row),
                width * scale / 2,
                height * scale / 2,
            )
            box = Box(x - half_width, middle - half_height, x + half_width, middle + half_height)
            found.setdefault(group, []).append(box)
    return [tuple(found[group]) for group in sorted(found)]


def _groups(rng: Random) -> tuple[Group, ...]:
    while True:
        count = rng.choice((1, 2, 2, 2, 3))
        kinds = rng.sample(sorted(SIZES), count)
        numbers = [rng.choice((1, 1, 2, 2, 3, 4)) for _ in kinds]
        names = [f'{rng.choice(COLOURS)} {k}' if rng.random() < 0.2 else k for k in kinds]
        # The scoring of layouts must be able to tell the classes apart.
        apart = all(mentioned_class(name, names) == name for name in names)
        if apart and sum(numbers) <= MOST:
            return tuple(map(Group, kinds, names, numbers))


def _unseen(groups: Sequence[Group]) -> bool:
    """Whether the sentence holds a class with a number, or a pair of classes, held out."""
    kinds = sorted(g.kind for g in groups)
    if any(held_out(f'{g.number} of {g.kind}') for g in groups):
        return True
    return any(held_out(f'{a}/{b}') for n, a in enumerate(kinds) for b in kinds[n + 1 :])


def _sentence(groups: Sequence[Group], relation: str, rng: Random, split: str) -> str:
    digits = rng.random() < 0.25
    said = [_amount(group, digits, rng) for group in groups]
    if not relation:
        return said[0] if len(said) == 1 else f'{", ".join(said[:-1])} and {said[-1]}'
    sentence = f'{said[0]} {draw(PLACES[relation], split, rng)} {said[1]}'
    if len(groups) == 2:
        return sentence
    other = 'it' if groups[1].number == 1 else 'them'
    return f'{sentence} and {said[2]} {draw(PLACES[_OPPOSITE[relation]], split, rng)} {other}'


def _amount(group: Group, digits: bool, rng: Random) -> str:
    if group.number == 1 and rng.random() < 0.7:
        return article(group.name)
    return f'{group.number if digits else _WORDS[group.number]} {group.noun}'
