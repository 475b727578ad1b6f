"""Where sequences lie in the buffers of a decoder, and what a step over several of them gets.

Keys and values lie in slots. A sequence is a list of slots; forks share those of their
common beginning and append behind all that is in use, so that a step may take any number of
sequences of the same buffers: each new token is told which slots it may see. What two sequences
share lies there once, whatever their lengths nothing is padded, and a sequence that has ended or
was cut back leaves slots that are written over or left behind at the next move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, Protocol
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from unifiedmllm_ros.runtime.engine import Array, Row

Slots = npt.NDArray[np.int64]

SLACK: Final = 128
"""Slots that others' sequences may take before a step moves to buffers of its own."""

ROOM: Final = 8
"""Slots set up beforehand for each further sequence of a step."""
_NONE: Final = np.zeros(0, np.int64)


class SlotCache:
    """A sequence: slots, in its order, of buffers that others share. A runtime.engine.Cache."""

    def __init__(self, buffers: SlotBuffers, slots: Slots | None = None) -> None:
        self.buffers = buffers
        self.slots = np.zeros(0, np.int64) if slots is None else slots
        buffers.users.add(self)

    @property
    def length(self) -> int:
        """Positions held."""
        return len(self.slots)

    @property
    def end(self) -> int:
        """The slot behind the highest one."""
        return int(self.slots.max()) + 1 if len(self.slots) else 0

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on."""
        if not 0 <= length <= len(self.slots):
            raise ValueError(f'cannot truncate a cache of {len(self.slots)} positions to {length}')
        self.slots = self.slots[:length]

    def fork(self) -> SlotCache:
        """Return a cache of the same sequence that goes its own way."""
        return SlotCache(self.buffers, self.slots)

    def move(self, buffers: SlotBuffers, slots: Slots) -> None:
        """Go on in other buffers, where the sequence has been copied to."""
        self.buffers.users.discard(self)
        self.buffers, self.slots = buffers, slots
        buffers.users.add(self)


class SlotBuffers:
    """Keys and values of all layers, `capacity` slots of each.

    dirty: they may hold numbers that are not finite in some slot; masked, these would still
    spread, so that nothing more may be appended here.
    """

    def __init__(self, capacity: int) -> None:
        self.users: WeakSet[SlotCache] = WeakSet()
        self.capacity = capacity
        self.dirty = False

    @property
    def used(self) -> int:
        """The slot behind the highest one of any sequence."""
        return max((user.end for user in self.users), default=0)


class Mover(Protocol):
    """Makes buffers."""

    def gather(self, parts: Sequence[tuple[Any, Slots]], capacity: int) -> Any:
        """Return new buffers that begin with slots of others, and take `capacity` in all."""
        ...


@dataclass(frozen=True)
class Inputs:
    """Arrays of a step, as the decoder graph takes them, and the new slots of each row."""

    arrays: dict[str, np.ndarray]
    slots: list[Slots]
    new: int

    def append(self, rows: Sequence[Row]) -> None:
        """Count what the step has written to the sequences."""
        for row, slots in zip(rows, self.slots, strict=True):
            row.cache.slots = np.concatenate((row.cache.slots, slots))


@dataclass(frozen=True)
class Suffix:
    """What a step computes of a row: all of it, or what is behind a prefix that another row has.

    like: place of that row. ids, pictures: how many the prefix has. prefix: its positions.
    """

    row: Row
    like: int = 0
    ids: int = 0
    pictures: int = 0
    prefix: int = 0

    @property
    def new(self) -> int:
        """Positions that are computed."""
        return self.row.new - self.prefix

    def own(self) -> Row:
        """Return what is computed as a row."""
        row = self.row
        pictures = [(before - self.ids, f) for before, f in row.pictures[self.pictures :]]
        return Row(row.ids[self.ids :], row.cache, pictures, row.wanted)


def suffixes_of(rows: Sequence[Row]) -> list[Suffix]:
    """Divide a step: what rows of equal sequences begin with alike is computed once."""
    suffixes: list[Suffix] = []
    firsts: list[int] = []
    for row in rows:
        like = next((p for p in firsts if _equal(rows[p].cache, row.cache)), None)
        if like is None:
            firsts.append(len(suffixes))
            suffixes.append(Suffix(row))
        else:
            suffixes.append(_suffix(row, like, rows[like]))
    return suffixes


def _equal(one: SlotCache, other: SlotCache) -> bool:
    """Return whether two caches hold the same sequence, for it lies in the same slots."""
    return one.buffers is other.buffers and np.array_equal(one.slots, other.slots)


def _suffix(row: Row, like: int, first: Row) -> Suffix:
    # The row keeps the ids that it wants logits of.
    most = min(len(row.ids) - row.wanted, len(first.ids))
    pairs = zip(row.ids[:most], first.ids[:most], strict=True)
    ids = next((place for place, (one, other) in enumerate(pairs) if one != other), most)
    pictures = visual = 0
    for one, other in zip(row.pictures, first.pictures, strict=False):
        if one[0] != other[0] or one[1] is not other[1] or one[0] >= ids:
            break
        pictures, visual = pictures + 1, visual + len(one[1])
    for each in (row, first):  # up to the first picture that is not shared
        ids = min([ids, *(before for before, _ in each.pictures[pictures:])])
    return Suffix(row, like, ids, pictures, ids + visual)


def together(rows: Sequence[Row], most: int) -> Iterator[Sequence[Row]]:
    """Cut rows into groups whose sequences fit buffers of `most` slots; one row always does."""
    if len(rows) > 1 and not _fit(rows, most):
        middle = len(rows) // 2
        yield from together(rows[:middle], most)
        yield from together(rows[middle:], most)
    else:
        yield rows


def in_groups(
    rows: Sequence[Row], most: int, run: Callable[[Sequence[Row]], list[Array]]
) -> list[Array]:
    """Run a step in as few groups as fit buffers of `most` slots; returns the logits of each row.

    Where a run fails, all sequences are what they were; nothing more is appended in their buffers.
    """
    lengths = [row.cache.length for row in rows]
    said: list[Array] = []
    try:
        for group in together(rows, most):
            said += run(group)
    except Exception:
        for row, length in zip(rows, lengths, strict=True):
            row.cache.truncate(length)
            row.cache.buffers.dirty = True
        raise
    return said


def run(
    rows: Sequence[Row],
    suffixes: Sequence[Suffix],
    mover: Mover,
    nothing: Array,
    compute: Callable[[Any, Inputs], Array],
) -> list[Array]:
    """Append to sequences in one run of a decoder; returns the logits of each row.

    suffixes: what is computed of each row. nothing: see inputs. compute: gives the logits of all
    rows, of the buffers that hold the sequences and of what the decoder gets.
    """
    buffers = shared_buffers(rows, sum(suffix.new for suffix in suffixes), mover)
    given = inputs(suffixes, buffers, nothing)
    logits = compute(buffers, given)
    buffers.dirty = not np.isfinite(logits.sum())
    given.append(rows)
    return split(logits, rows)


def shared_buffers(rows: Sequence[Row], new: int, mover: Mover) -> Any:
    """Return buffers that hold all sequences of a step and have room for `new` slots.

    They are those that the sequences have already, unless these differ, are full or dirty, or
    belong to others for the most part: then the sequences move to new ones.
    """
    buffers: SlotBuffers = rows[0].cache.buffers
    if not buffers.dirty and all(row.cache.buffers is buffers for row in rows):
        used = buffers.used
        fits = used + new <= buffers.capacity
        if fits and used <= SLACK + 2 * sum(row.cache.length for row in rows):
            return buffers
    return _moved(rows, new, mover)


def _moved(rows: Sequence[Row], new: int, mover: Mover) -> Any:
    parts = [(buffers, caches, _union(caches)) for buffers, caches in _by_buffers(rows)]
    held = sum(len(slots) for _, _, slots in parts)
    capacity = held + new + ROOM * (len(rows) - 1)
    target = mover.gather([(buffers, slots) for buffers, _, slots in parts], capacity)
    start = 0
    for _, caches, slots in parts:
        for cache in caches:
            cache.move(target, start + np.searchsorted(slots, cache.slots))
        start += len(slots)
    return target


def _fit(rows: Sequence[Row], most: int) -> bool:
    new = sum(row.new for row in rows)
    if sum(row.cache.length for row in rows) + new <= most:  # as if nothing were shared
        return True
    return sum(len(_union(caches)) for _, caches in _by_buffers(rows)) + new <= most


def _by_buffers(rows: Sequence[Row]) -> list[tuple[SlotBuffers, list[SlotCache]]]:
    found: dict[int, tuple[SlotBuffers, list[SlotCache]]] = {}
    for row in rows:
        buffers = row.cache.buffers
        found.setdefault(id(buffers), (buffers, []))[1].append(row.cache)
    return list(found.values())


def _union(caches: Sequence[SlotCache]) -> Slots:
    """Return the slots of sequences, ascending."""
    return np.unique(np.concatenate([cache.slots for cache in caches]))


def inputs(suffixes: Sequence[Suffix], buffers: SlotBuffers, nothing: Array) -> Inputs:
    """Return what a step gets: visual tokens of all rows first, then the ids of all.

    nothing: visual tokens (0, D) where no row has any. Logits come row by row.
    """
    rows = [suffix.own() for suffix in suffixes]
    start, new = buffers.used, sum(row.new for row in rows)
    pictures = [features for row in rows for _, features in row.pictures] or [nothing]
    shown, said = 0, new - sum(len(row.ids) for row in rows)
    places = np.empty(new, np.int64)
    visible = np.zeros((new, buffers.capacity), np.bool_)
    slots: list[Slots] = []
    wanted = []
    for suffix, row in zip(suffixes, rows, strict=True):
        index = _order(row, shown, said)
        shown, said = shown + row.visual, said + len(row.ids)
        begun = slots[suffix.like][: suffix.prefix] if suffix.prefix else _NONE
        held, count = np.concatenate((row.cache.slots, begun)), len(index)
        places[index] = np.arange(len(held), len(held) + count)
        seen = np.zeros((count, buffers.capacity), np.bool_)
        seen[:, held] = True
        seen[:, start + index] = np.tri(count, dtype=np.bool_)
        visible[index] = seen
        slots.append(np.concatenate((begun, start + index)))
        wanted.append(np.arange(said - row.wanted, said))
    arrays: dict[str, np.ndarray] = {
        'input_ids': np.asarray([[token for row in rows for token in row.ids]], np.int64),
        'features': np.ascontiguousarray(np.concatenate(pictures), np.float32)[None],
        'places': places[None],
        'position': np.asarray([start], np.int64),
        'visible': visible,
        'rows': np.concatenate(wanted),
    }
    return Inputs(arrays, slots, new)


def _order(row: Row, shown: int, said: int) -> Slots:
    """Return where in the step the positions of a row are, in the order of its sequence.

    shown, said: where its visual tokens begin, and its ids.
    """
    parts, start = [], 0
    for before, features in row.pictures:
        parts.append(np.arange(said + start, said + before))
        parts.append(np.arange(shown, shown + len(features)))
        start, shown = before, shown + len(features)
    return np.concatenate((*parts, np.arange(said + start, said + len(row.ids))))


def split(logits: Array, rows: Sequence[Row]) -> list[Array]:
    """Cut the logits of a step into those of its rows."""
    ends = list(accumulate(row.wanted for row in rows))
    return [logits[end - row.wanted : end] for row, end in zip(rows, ends, strict=True)]
