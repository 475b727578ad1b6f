"""Which object a description denotes, from ground truth alone.

Every relation is three-valued: True and False where nobody would argue, None in between. A
description denotes an object only when the relation is True for it and False for every other
object that a listener could mean, nearly hidden ones included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from unifiedmllm_ros.errors import UnifiedMLLMError
from unifiedmllm_ros.tabletop.lexicon import Entry, Lexicon
from unifiedmllm_ros.tabletop.record import ObjectRecord, SceneRecord

SIDE_MARGIN = 0.06
"""Least difference of box centres for left / right, as a share of the image width."""
DEPTH_MARGIN = 0.05
"""Least difference of distance along the camera's axis for front / behind, metres."""
NEAREST_RATIO = 1.25
"""The runner-up must be this much farther than the nearest."""
NEXT_TO_GAP = (0.06, 0.14)
"""Gap between two objects on the table, metres: next to below the first, apart above the second."""
ORDER_MARGIN = 0.04
"""Least difference of box centres between neighbours in a left to right order, image widths."""
VOLUME_RATIO = 1.4
HEIGHT_RATIO = 1.2

RIVAL_USES = {
    'put things in': ('eat from', 'drink from', 'put food in', 'cook with', 'store things'),
    'store things': ('put things in',),
    'snack on': ('eat',),
    'season food': ('eat',),
    'put on food': ('eat',),
    'fry eggs in': ('cook with',),
}
"""Uses whose objects one might also offer when asked for another use."""

Verdict = bool | None


class UnknownObjectError(UnifiedMLLMError):
    """A scene that holds an object the catalogue does not know."""

    code = 'unknown_object'


@dataclass(frozen=True)
class Seen:
    """An object as a viewer meets it: record, catalogue entry, and what is often asked of them."""

    record: ObjectRecord
    entry: Entry
    referable: bool
    u: float
    v: float
    depth: float

    @property
    def index(self) -> int:
        return self.record.index


@dataclass(frozen=True)
class Pool:
    """Objects that a noun may mean: `members` surely, `doubtful` perhaps or hardly visible."""

    members: tuple[Seen, ...]
    doubtful: tuple[Seen, ...]

    @property
    def clear(self) -> bool:
        """Whether no object is doubtful."""
        return not self.doubtful

    def only(self) -> Seen | None:
        """The single object that the noun denotes, or None."""
        return self.members[0] if len(self.members) == 1 and not self.doubtful else None

    def without(self, *seen: Seen) -> Pool:
        """The pool less the objects named (a reference is never its own answer)."""
        gone = {s.index for s in seen}
        return Pool(
            tuple(s for s in self.members if s.index not in gone),
            tuple(s for s in self.doubtful if s.index not in gone),
        )

    def select(self, holds: Callable[[Seen], Verdict]) -> Seen | None:
        """The one member for which `holds` is True while it is False for all others, or None."""
        chosen = None
        for seen in self.members:
            verdict = holds(seen)
            if verdict is None or (verdict and chosen is not None):
                return None
            if verdict:
                chosen = seen
        if chosen is None or any(holds(seen) is not False for seen in self.doubtful):
            return None
        return chosen

    def extreme(self, value: Callable[[Seen], float], rank: int, margin: float) -> Seen | None:
        """The member of the given rank by rising `value`, `margin` away from its neighbours."""
        ranked = sorted((value(s), s.index, s) for s in self.all())
        if len(ranked) < rank + 2:
            return None
        gaps = [b[0] - a[0] for a, b in pairwise(ranked[: rank + 2])]
        chosen = ranked[rank][2]
        hidden = any(s in self.doubtful for *_, s in ranked[: rank + 1])
        return None if hidden or min(gaps) < margin else chosen

    def all(self) -> tuple[Seen, ...]:
        """Members and doubtful objects."""
        return self.members + self.doubtful


@dataclass
class View:
    """A scene with its objects resolved against a lexicon. Pools are computed once per term."""

    scene: SceneRecord
    lexicon: Lexicon
    seen: tuple[Seen, ...] = ()
    referable: tuple[Seen, ...] = ()
    _pools: dict[str, Pool] = field(default_factory=dict)
    _names: dict[int, tuple[str, ...]] = field(default_factory=dict)
    _shared: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        self.seen = tuple(self._see(o) for o in self.scene.objects if o.area > 0)
        self.referable = tuple(s for s in self.seen if s.referable)

    def pool(self, term: str) -> Pool:
        """The objects that `term` may mean."""
        found = self._pools.get(term)
        if found is None:
            strict, loose = self.lexicon.strict[term], self.lexicon.loose[term]
            found = self._pools[term] = self._split(strict, loose)
        return found

    def names(self, seen: Seen) -> tuple[str, ...]:
        """The terms that denote this object and no other of the scene."""
        found = self._names.get(seen.index)
        if found is None:
            terms = seen.entry.terms if seen.referable else ()
            found = tuple(t for t in terms if self.pool(t).only() is seen)
            self._names[seen.index] = found
        return found

    def shared_nouns(self) -> tuple[str, ...]:
        """Terms that several objects of the scene answer to, so that a noun is not enough."""
        if self._shared is None:
            terms = dict.fromkeys(t for s in self.referable for t in s.entry.terms)
            self._shared = tuple(t for t in terms if len(self.pool(t).members) > 1)
        return self._shared

    def coloured(self, colour: str) -> Pool:
        """The objects of one colour; those partly of it, or of unknown colour, are doubtful."""
        key = f'colour {colour}'
        found = self._pools.get(key)
        if found is None:
            strict, loose = self.lexicon.with_colour(colour), self.lexicon.with_some_colour(colour)
            found = self._pools[key] = self._split(strict, loose)
        return found

    def usable(self, use: str) -> Pool:
        """The objects that serve a use; those that would do at a pinch are doubtful."""
        rivals = RIVAL_USES.get(use, ())
        return self._split(self.lexicon.serving(use), self.lexicon.serving(use, *rivals))

    def without_doubt_absent(self, term: str) -> bool:
        """Whether no object of the scene, seen or hidden, could be called `term`."""
        if term not in self.lexicon.loose:
            return True
        loose = self.lexicon.loose[term]
        return not any(o.name in loose for o in self.scene.objects)

    def nothing_serves(self, use: str) -> bool:
        """Whether no object of the scene, seen or hidden, would serve a use even at a pinch."""
        assets = self.lexicon.serving(use, *RIVAL_USES.get(use, ()))
        return not any(o.name in assets for o in self.scene.objects)

    def _split(self, strict: frozenset[str], loose: frozenset[str]) -> Pool:
        members, doubtful = [], []
        for seen in self.seen:
            if seen.entry.asset in strict and seen.referable:
                members.append(seen)
            elif seen.entry.asset in loose or seen.entry.asset in strict:
                doubtful.append(seen)
        return Pool(tuple(members), tuple(doubtful))

    def _see(self, item: ObjectRecord) -> Seen:
        if item.name not in self.lexicon.entries:
            raise UnknownObjectError(
                f'scene {self.scene.id}: object {item.name!r} is not in the catalogue; '
                'add it there or render the scene again'
            )
        x1, y1, x2, y2 = item.box
        return Seen(
            record=item,
            entry=self.lexicon.entries[item.name],
            referable=self.scene.referable(item),
            u=(x1 + x2) / 2,
            v=(y1 + y2) / 2,
            depth=item.position_camera[2],
        )


def left_of(a: Seen, b: Seen) -> Verdict:
    """Whether `a` is left of `b` in the picture."""
    return _beyond(b.u - a.u, SIDE_MARGIN)


def right_of(a: Seen, b: Seen) -> Verdict:
    """Whether `a` is right of `b` in the picture."""
    return _beyond(a.u - b.u, SIDE_MARGIN)


def in_front_of(a: Seen, b: Seen) -> Verdict:
    """Whether `a` is nearer to the camera than `b`."""
    return _beyond(b.depth - a.depth, DEPTH_MARGIN)


def behind(a: Seen, b: Seen) -> Verdict:
    """Whether `a` is farther from the camera than `b`."""
    return _beyond(a.depth - b.depth, DEPTH_MARGIN)


def next_to(a: Seen, b: Seen) -> Verdict:
    """Whether `a` stands next to `b`: by the gap between the two on the table."""
    gap = table_distance(a, b) - _radius(a) - _radius(b)
    near, far = NEXT_TO_GAP
    if gap < near:
        return True
    return False if gap > far else None


def between(a: Seen, b: Seen, c: Seen) -> Verdict:
    """Whether `a` stands between `b` and `c`, both in the picture and on the table."""
    verdicts = (
        _within((a.u, a.v), (b.u, b.v), (c.u, c.v)),
        _within(a.record.position[:2], b.record.position[:2], c.record.position[:2]),
    )
    return verdicts[0] if verdicts[0] is verdicts[1] else None


def nearest(pool: Pool, target: Seen) -> Seen | None:
    """The member of `pool` nearest to `target` on the table, by a clear ratio, or None."""
    others = pool.without(target)
    ranked = sorted((table_distance(s, target), s.index, s) for s in others.all())
    if len(ranked) < 2 or ranked[1][0] < NEAREST_RATIO * ranked[0][0]:
        return None
    return ranked[0][2] if ranked[0][2] in others.members else None


def largest(pool: Pool, sign: int = 1) -> Seen | None:
    """The largest member (smallest for sign -1) by volume that is also no shorter in extent."""
    ranked = sorted(pool.all(), key=lambda s: -sign * volume(s))
    if len(ranked) < 2 or pool.doubtful:
        return None
    first, second = ranked[:2]
    clear = sign * math.log(volume(first) / volume(second)) >= math.log(VOLUME_RATIO)
    extents = all(sign * (extent(first) - extent(s)) >= 0 for s in ranked[1:])
    return first if clear and extents else None


def tallest(pool: Pool) -> Seen | None:
    """The tallest member by a clear ratio, or None."""
    ranked = sorted(pool.all(), key=lambda s: -s.record.size[2])
    if len(ranked) < 2 or pool.doubtful:
        return None
    first, second = ranked[:2]
    return first if first.record.size[2] >= HEIGHT_RATIO * second.record.size[2] else None


def table_distance(a: Seen, b: Seen) -> float:
    """Distance of the centres on the table plane, metres."""
    return math.dist(a.record.position[:2], b.record.position[:2])


def volume(seen: Seen) -> float:
    """Volume of the bounding block, cubic metres."""
    x, y, z = seen.record.size
    return max(x * y * z, 1e-9)


def extent(seen: Seen) -> float:
    """Diagonal of the bounding block, metres."""
    return math.hypot(*seen.record.size)


def left_to_right(seen: Iterable[Seen]) -> tuple[Seen, ...]:
    """Objects ordered by the left edge of their boxes, as answers list them."""
    return tuple(sorted(seen, key=lambda s: (s.record.box[0], s.record.box[1], s.index)))


def _beyond(difference: float, margin: float) -> Verdict:
    if difference > margin:
        return True
    return False if difference < 0 else None


def _radius(seen: Seen) -> float:
    return (seen.record.size[0] + seen.record.size[1]) / 4


def _within(a: Sequence[float], b: Sequence[float], c: Sequence[float]) -> Verdict:
    dx, dy = c[0] - b[0], c[1] - b[1]
    square = dx * dx + dy * dy
    if square == 0:
        return False
    along = ((a[0] - b[0]) * dx + (a[1] - b[1]) * dy) / square
    across = abs((a[0] - b[0]) * dy - (a[1] - b[1]) * dx) / square
    if 0.2 < along < 0.8 and across < 0.25:
        return True
    return False if along < 0 or along > 1 or across > 0.45 else None
