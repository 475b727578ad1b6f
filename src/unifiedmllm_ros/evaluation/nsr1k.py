"""The scoring rules of NSR-1K: layouts against sentences that state numbers or a relation.

Feng et al., LayoutGPT, NeurIPS 2023, as their scripts score, oddities included: they are what
published figures were made with. A layout is a list of (class, (x, y, w, h)), the box's top left
corner and size as fractions of the image.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

XYWH = tuple[float, float, float, float]
Layout = Sequence[tuple[str, XYWH]]
Counts = Sequence[tuple[str, int]]

_AXIS = 0.7071  # cosine of 45 degrees, as published
_NOTHING: XYWH = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class NumericalScore:
    """One layout of a numerical prompt; a comparison has an accuracy only.

    accuracy, precision, recall and iou in [0, 1]; mae is in boxes per mentioned class.
    """

    accuracy: float
    precision: float | None = None
    recall: float | None = None
    iou: float | None = None
    mae: float | None = None


def mentioned_class(name: str, mentioned: Sequence[str]) -> str:
    """The class that a predicted name counts as: the last one that matches, or the name itself.

    Either string contains the other, after "a ", "an " and "the " are stripped from the prediction
    as sets of characters ("hand" becomes "and"). The name becomes the class it matched before it
    is compared with the next one.
    """
    for each in mentioned:
        stripped = name.lstrip('a ').lstrip('an ').lstrip('the ')
        if stripped in each or each in stripped:
            name = each
    return name


def count_classes(layout: Layout, mentioned: Sequence[str]) -> Counter[str]:
    """How many boxes each class has; unmentioned classes keep the names they came with."""
    return Counter(mentioned_class(name, mentioned) for name, _ in layout)


def score_comparison(layout: Layout, truth: Counts) -> NumericalScore:
    """A prompt such as "fewer cats than dogs", `truth` naming both classes in its order.

    Right where both counts are exact and equal as in the truth, or where the first is exact and
    the difference has the sign of the true one.
    """
    (first, wanted), (second, other) = truth
    counts = count_classes(layout, (first, second))
    said, said_other = counts[first], counts[second]
    equal = wanted == other == said == said_other
    signs = said == wanted and (wanted - other) * (said - said_other) > 0
    return NumericalScore(float(equal or signs))


def score_counts(layout: Layout, truth: Counts) -> NumericalScore:
    """Any other numerical prompt: counts of the mentioned classes against the true ones.

    Boxes of unmentioned classes lower the precision only.
    """
    counts = count_classes(layout, [name for name, _ in truth])
    pairs = [(counts[name], wanted) for name, wanted in truth]
    common = sum(min(pair) for pair in pairs)
    mae = sum(abs(said - wanted) for said, wanted in pairs) / len(pairs) if pairs else 0.0
    accuracy = float(all(said == wanted for said, wanted in pairs))
    if not common:
        return NumericalScore(accuracy, 0.0, 0.0, 0.0, mae)
    return NumericalScore(
        accuracy,
        common / counts.total(),
        common / sum(wanted for _, wanted in pairs),
        common / sum(max(pair) for pair in pairs),
        mae,
    )


def relation_between(first: XYWH, second: XYWH) -> str:
    """Where the first box lies from the second: left, right, top, bottom, or diagonal.

    By the direction between the centres, within 45 degrees of an axis; boxes of one centre are
    diagonal.
    """
    across = (first[0] + first[2] / 2) - (second[0] + second[2] / 2)
    up = (second[1] + second[3] / 2) - (first[1] + first[3] / 2)
    distance = math.hypot(across, up)
    if distance == 0:
        return 'diagonal'
    for name, share in (
        ('right', across / distance),
        ('top', up / distance),
        ('left', -across / distance),
        ('bottom', -up / distance),
    ):
        if share > _AXIS:
            return name
    return 'diagonal'


def score_spatial(layout: Layout, first: str, second: str, relation: str) -> bool | None:
    """Whether a layout satisfies the relation of two named things; None where one is missing.

    The best close match of a name (difflib, cutoff 0.6) is the thing; every pair of boxes of the
    two counts, one that satisfies the relation is enough. "next to" is left or right.
    """
    # An all-zero box is no box, as published.
    drawn = [(name, box) for name, box in layout if tuple(box) != _NOTHING]
    boxes = [list(_boxes_of(name, drawn)) for name in (first, second)]
    if not all(boxes):
        return None
    found = {relation_between(a, b) for a in boxes[0] for b in boxes[1]}
    return relation in found or (relation == 'next to' and not found.isdisjoint({'left', 'right'}))


def _boxes_of(name: str, drawn: Layout) -> Iterator[XYWH]:
    close = get_close_matches(name, [said for said, _ in drawn])[:1]
    return (box for said, box in drawn if said in close)
