"""Requests that act on things in the picture: follow, remove, replace, recolour, add beside.

What is acted on is referred to in any of the ways in which things are asked for. The argument of
an edit names it by its short name, in words of ours; what is new comes in the user's words.
"""

from __future__ import annotations

from random import Random

from unifiedmllm_ros.representation import Box, Region, Response, TaskCall
from unifiedmllm_ros.tabletop import pointing
from unifiedmllm_ros.tabletop.asked import ATTEMPTS, Asked, Proposer, any_named, missing, none_there
from unifiedmllm_ros.tabletop.lexicon import article
from unifiedmllm_ros.tabletop.record import Corners, canonical_box
from unifiedmllm_ros.tabletop.referring import View, left_to_right
from unifiedmllm_ros.tabletop.task_phrasings import PLACES
from unifiedmllm_ros.tabletop.task_words import COLOURS, held_out, new_thing
from unifiedmllm_ros.tabletop.wording import definite, draw, named

ABSENT_SHARE = 0.12
"""How often something is to be followed or edited that is not there."""
GAP = 0.01
"""Between a reference and what is added beside it, as a share of the picture."""
LARGEST = (0.22, 0.3)
"""Width and height that a thing to be added has at most, as shares of the picture."""
SIDES = ('left of', 'right of', 'next to')

_REFERENCES: tuple[Proposer, ...] = (
    pointing.by_name,
    pointing.by_name,
    pointing.by_colour,
    pointing.by_relation,
    pointing.by_order,
    pointing.by_superlative,
)


def track(view: View, rng: Random, split: str) -> Asked | None:
    """To follow one thing or several through a video; the boxes are those of the first frame."""
    several = rng.random() < 0.25
    asked = pointing.several(view, rng, split) if several else reference(view, rng, split)
    if asked is None or rng.random() < ABSENT_SHARE:
        return _none(view, rng, 'one_track')
    boxes = [canonical_box(seen.record.box) for seen in left_to_right(asked.targets)]
    answer = Response((TaskCall('vidseg', '', (Region(asked.phrase, tuple(boxes)),)),))
    return Asked(
        'all_track' if several else 'one_track',
        asked.slots,
        asked.targets,
        asked.phrase,
        task='vidseg',
        relation=asked.relation,
        needed=asked.needed,
        answer=answer,
    )


def remove(view: View, rng: Random, split: str) -> Asked | None:
    """To take a thing out of the picture."""
    asked = reference(view, rng, split)
    if asked is None or rng.random() < ABSENT_SHARE:
        return _none(view, rng, 'remove')
    return edited(asked, 'remove', removal(asked.phrase, asked.targets[0].record.box))


def replace(view: View, rng: Random, split: str) -> Asked | None:
    """To put another thing into a thing's place."""
    asked = reference(view, rng, split)
    if asked is None or rng.random() < ABSENT_SHARE:
        new = article(new_thing(rng, split, ''))
        return _none(view, rng, 'replace', new=new)
    (seen,) = asked.targets
    new = article(new_thing(rng, split, seen.entry.kind))
    return edited(asked, 'replace', replacement(asked.phrase, seen.record.box, new), new=new)


def recolour(view: View, rng: Random, split: str) -> Asked | None:
    """To give a thing another colour."""
    asked = reference(view, rng, split)
    if asked is None or rng.random() < ABSENT_SHARE:
        return _none(view, rng, 'recolour', c=rng.choice(COLOURS))
    (seen,) = asked.targets
    colour = new_colour(rng, split, seen.entry.kind, seen.entry.colour)
    answer = recolouring(asked.phrase, seen.record.box, colour)
    return edited(asked, 'recolour', answer, c=colour)


def add(view: View, rng: Random, split: str) -> Asked | None:
    """To put a new thing beside one that is there, where there is room for it."""
    for _ in range(ATTEMPTS):
        seen, side = any_named(view, rng), rng.choice(SIDES)
        if seen is None:
            return None
        taken = [s.record.box for s in view.seen if s is not seen]
        box = free_box(seen.record.box, side, taken)
        if box is None:
            continue
        name = rng.choice(view.names(seen))
        new = new_thing(rng, split, f'{side}/{seen.entry.kind}')
        slots = {
            'new': article(new),
            'y': definite(name, rng),
            'rel': draw(PLACES[side], split, rng),
        }
        answer = addition(new, box, side, seen.entry.short)
        return Asked('add', slots, task='regedit', relation=side, answer=answer)
    return None


def reference(view: View, rng: Random, split: str) -> Asked | None:
    """One thing, referred to by name, colour, relation, order or size."""
    for _ in range(ATTEMPTS):
        asked = rng.choice(_REFERENCES)(view, rng, split)
        if asked is not None and asked.request == 'one' and len(asked.targets) == 1:
            return asked
    return None


def edited(asked: Asked, request: str, answer: Response, **slots: str) -> Asked:
    """An edit of what `asked` refers to."""
    return Asked(
        request,
        {**asked.slots, **slots},
        asked.targets,
        asked.phrase,
        task='regedit',
        relation=asked.relation,
        needed=asked.needed,
        answer=answer,
    )


def removal(phrase: str, box: Corners) -> Response:
    """The answer that takes a thing away."""
    return _edit('I will take it away. ', f'remove the {phrase}', phrase, canonical_box(box))


def replacement(phrase: str, box: Corners, new: str) -> Response:
    """The answer that puts `new` (with its article) into a thing's place."""
    argument = f'replace the {phrase} with {new}'
    return _edit('I will replace it. ', argument, phrase, canonical_box(box))


def recolouring(phrase: str, box: Corners, colour: str) -> Response:
    """The answer that gives a thing another colour."""
    return _edit('I will paint it. ', f'paint the {phrase} {colour}', phrase, canonical_box(box))


def addition(new: str, box: Box, side: str, phrase: str) -> Response:
    """The answer that puts `new` (without an article) beside a thing."""
    return _edit('I will add it. ', f'add {article(new)} {side} the {phrase}', new, box)


def new_colour(rng: Random, split: str, kind: str, old: str) -> str:
    """A colour that the thing does not have; some pairs of colour and kind are held out."""
    choices = [c for c in COLOURS if c != old and held_out(f'{c} {kind}') == (split == 'test')] or [
        c for c in COLOURS if c != old
    ]
    return rng.choice(choices)


def free_box(reference: Corners, side: str, taken: list[Corners]) -> Box | None:
    """A box beside `reference` that stands on its base and touches none of `taken`, or None.

    "Next to" is the right side, or the left where the right one has no room.
    """
    if side == 'next to':
        right = free_box(reference, 'right of', taken)
        return right or free_box(reference, 'left of', taken)
    x1, y1, x2, y2 = reference
    width, height = min(x2 - x1, LARGEST[0]), min(y2 - y1, LARGEST[1])
    left = x1 - GAP - width if side == 'left of' else x2 + GAP
    corners = (left, y2 - height, left + width, y2)
    if corners[0] < 0 or corners[2] > 1 or any(_touch(corners, other) for other in taken):
        return None
    return canonical_box(corners)


def _touch(a: Corners, b: Corners) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _edit(lead: str, argument: str, phrase: str, box: Box) -> Response:
    return Response((lead, TaskCall('regedit', argument, (Region(phrase, (box,)),))))


def _none(view: View, rng: Random, request: str, **slots: str) -> Asked | None:
    term = missing(view, rng)
    if term is None:
        return None
    absent = none_there(named(term, rng), term)
    return Asked(request, {**absent.slots, **slots}, prose=absent.prose, task='absent')
