"""Which matrices of a decoder bear few bits: measured on examples, one matrix at a time.

Models that write numbers to the thousandth do so with few matrices: the value projection that
copies a coordinate may outweigh all others together. Each matrix is quantised alone, and how far
this moves the next token's choice (the true answer before it) towards the second best is its cost.
Bits are then given where they save most of that for their bytes, and no more of them than needed
for equal answers. Such searches are usual for mixed precision (Dong et al., HAWQ, 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from unifiedmllm_ros.runtime.calibration import Example
from unifiedmllm_ros.runtime.context import Context
from unifiedmllm_ros.runtime.engine import Array, Engine
from unifiedmllm_ros.runtime.quantisation import Bits

WANTED: Final = 1.0
"""Share of the examples' answers that must stay: more than a check asks for on other ones."""
MOST_BITS: Final[Mapping[Bits, float]] = {4: 7.0, 8: 13.0}
"""Mean bits of a weight, by what was asked for: more would not be worth the name."""
_NEXT: Final[Mapping[Bits, Bits]] = {4: 8, 8: 16}
_LEAST_GAP: Final = 1e-3
_SWEPT: Final = 48  # answers that every single matrix is measured on

Levels = dict[str, Bits]
Open = Callable[[Levels], Engine]


@dataclass(frozen=True)
class Drift:
    """What fewer bits do to answers, the true one before each token.

    shifts: of every token, how much of the gap between the likeliest and the next one is taken
    or given. equal: share of answers of which every token stays the likeliest.
    """

    shifts: Array
    equal: float

    def unsettled(self, finer: float = 1.0) -> float:
        """Bound the share of tokens that change, for errors `finer` times smaller than these.

        By Chebyshev's inequality, with each shift as the deviation of its token.
        """
        return float(np.minimum(1.0, (self.shifts / finer) ** 2).mean())


class Probe:
    """Measures how far a decoder drifts from the whole one."""

    def __init__(self, whole: Engine, examples: Sequence[Example], image_id: int) -> None:
        """whole: the engine in full precision. image_id: of the image's tokens."""
        self._image_id = image_id
        self._asked = [
            (features, exchange.question, exchange.answer)
            for example in examples
            for features in (whole.encode_image(example.pixels),)
            for exchange in example.exchanges
        ]
        self._expected = [self._logits(whole, place) for place in range(len(self._asked))]

    def __len__(self) -> int:
        return len(self._asked)

    def drift(self, engine: Engine, most: int | None = None) -> Drift:
        """Compare an engine on `most` answers spread over all, by default on all."""
        step = max(1, len(self) // most) if most else 1
        places = range(0, len(self), step)
        moved, equal = [], []
        for place in places:
            said, expected = self._logits(engine, place), self._expected[place]
            moved.append(shifts(expected, said))
            equal.append(bool((said.argmax(-1) == expected.argmax(-1)).all()))
        return Drift(np.concatenate(moved), float(np.mean(equal)))

    def _logits(self, engine: Engine, place: int) -> Array:
        features, question, answer = self._asked[place]
        context = Context(engine)
        context.show(self._image_id, features)
        return context.append([*question, *answer[:-1]], last=len(answer))


def shifts(expected: Array, said: Array) -> Array:
    """Return by how much of its gap each token's choice moved: logits (T, V) -> (T,)."""
    best = np.argpartition(expected, -2, axis=-1)[:, -2:]
    wanted, found = (np.take_along_axis(logits, best, -1) for logits in (expected, said))
    gap, left = wanted[:, 1] - wanted[:, 0], found[:, 1] - found[:, 0]
    return np.asarray(np.abs(left - gap) / np.maximum(gap, _LEAST_GAP))


def choose(
    sizes: Mapping[str, int], start: Mapping[str, Bits], open_engine: Open, probe: Probe
) -> Levels:
    """Return how many bits each matrix gets: those of `start`, or more where answers would change.

    sizes: weights of each matrix. open_engine: gives the engine of some levels, where a matrix
    that is not named stays whole. A model that learnt with such weights keeps its answers with
    them, and no matrix is tried alone.
    """
    if probe.drift(open_engine(dict(start))).equal >= WANTED:
        return dict(start)
    costs = {name: _costs(open_engine, probe, name) for name in sizes}
    steps = upgrades(costs, sizes, start)
    low, high = 0, len(steps)
    while low < high:
        middle = (low + high) // 2
        found = probe.drift(open_engine(applied(start, steps[:middle])))
        low, high = (low, middle) if found.equal >= WANTED else (middle + 1, high)
    return applied(start, steps[:low])


def _costs(open_engine: Open, probe: Probe, name: str) -> dict[Bits, float]:
    """Measure a matrix with 4 bits; 8 have steps 17 times smaller."""
    found = probe.drift(open_engine({name: 4}), _SWEPT)
    return {4: found.unsettled(), 8: found.unsettled(17)}


def upgrades(
    costs: Mapping[str, Mapping[Bits, float]],
    sizes: Mapping[str, int],
    start: Mapping[str, Bits],
) -> list[tuple[str, Bits]]:
    """Return (matrix, its new bits) in the order of what is gained for a byte, up to MOST_BITS."""

    def gain(name: str, level: Bits) -> float:
        after = costs[name].get(_NEXT[level], 0.0)
        return (costs[name][level] - after) / ((_NEXT[level] - level) * sizes[name])

    current: Levels = dict(start)
    room = MOST_BITS[min(start.values())] * sum(sizes.values())
    room -= sum(start[name] * size for name, size in sizes.items())
    steps: list[tuple[str, Bits]] = []
    while current:
        best = max(current, key=lambda name: gain(name, current[name]))
        level = _NEXT[current[best]]
        more = (level - current.pop(best)) * sizes[best]
        if more > room:
            continue
        room -= more
        steps.append((best, level))
        if level != 16:
            current[best] = level
    return steps


def applied(start: Mapping[str, Bits], steps: Sequence[tuple[str, Bits]]) -> Levels:
    """Return the levels after some upgrades."""
    return {**start, **dict(steps)}
