"""Which matrices of a decoder bear few bits: measured on examples, one matrix at a time.

Models that write numbers to the thousandth do so with few matrices: the value projection that
copies a coordinate may outweigh all others together. Each matrix is quantised alone, and what this
does to the next token's distribution (the Kullback-Leibler divergence from the whole model's, the
true answer before it) is its cost. Bits are then given where they save most divergence for their
bytes, and no more of them than needed for equal answers. Such searches are usual for mixed
precision (Dong et al., HAWQ, 2019).
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
MOST_BITS: Final[Mapping[Bits, float]] = {4: 6.0, 8: 13.0}
"""Mean bits of a weight, by what was asked for: more would not be worth the name."""
_NEXT: Final[Mapping[Bits, Bits]] = {4: 8, 8: 16}
_SWEPT: Final = 48  # answers that every single matrix is measured on

Levels = dict[str, Bits]
Open = Callable[[Levels], Engine]


@dataclass(frozen=True)
class Drift:
    """What fewer bits do to answers, the true one before each token.

    divergence: mean over tokens, in nats. equal: share of answers of which every token stays the
    likeliest.
    """

    divergence: float
    equal: float


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
        divergences, equal = [], []
        for place in places:
            said, expected = self._logits(engine, place), self._expected[place]
            divergences.append(divergence(expected, said))
            equal.append(bool((said.argmax(-1) == expected.argmax(-1)).all()))
        return Drift(float(np.concatenate(divergences).mean()), float(np.mean(equal)))

    def _logits(self, engine: Engine, place: int) -> Array:
        features, question, answer = self._asked[place]
        context = Context(engine)
        context.show(self._image_id, features)
        return context.append([*question, *answer[:-1]], last=len(answer))


def divergence(expected: Array, said: Array) -> Array:
    """Return the Kullback-Leibler divergence of each row of logits (T, V), in nats."""
    wanted, found = _log_softmax(expected), _log_softmax(said)
    return np.asarray((np.exp(wanted) * (wanted - found)).sum(-1))


def _log_softmax(logits: Array) -> Array:
    # What 8 bits do is near what float32 rounds here.
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def choose(sizes: Mapping[str, int], bits: Bits, open_engine: Open, probe: Probe) -> Levels:
    """Return how many bits each matrix gets: `bits`, or more where answers would change.

    sizes: weights of each matrix. open_engine: gives the engine of some levels, where a matrix
    that is not named stays whole.
    """
    costs = {name: _costs(open_engine, probe, name) for name in sizes}
    steps = upgrades(costs, sizes, bits)
    low, high = 0, len(steps)
    while low < high:
        middle = (low + high) // 2
        found = probe.drift(open_engine(applied(sizes, bits, steps[:middle])))
        low, high = (low, middle) if found.equal >= WANTED else (middle + 1, high)
    return applied(sizes, bits, steps[:low])


def _costs(open_engine: Open, probe: Probe, name: str) -> dict[Bits, float]:
    """Measure a matrix with 4 bits; 8 have steps 17 times smaller, and divergence goes with their
    square."""
    found = probe.drift(open_engine({name: 4}), _SWEPT).divergence
    return {4: found, 8: found / 17**2}


def upgrades(
    costs: Mapping[str, Mapping[Bits, float]], sizes: Mapping[str, int], bits: Bits
) -> list[tuple[str, Bits]]:
    """Return (matrix, its new bits) in the order of what is gained for a byte, up to MOST_BITS."""

    def gain(name: str, level: Bits) -> float:
        after = costs[name].get(_NEXT[level], 0.0)
        return (costs[name][level] - after) / ((_NEXT[level] - level) * sizes[name])

    current: Levels = dict.fromkeys(sizes, bits)
    room = (MOST_BITS[bits] - bits) * sum(sizes.values())
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


def applied(sizes: Mapping[str, int], bits: Bits, steps: Sequence[tuple[str, Bits]]) -> Levels:
    """Return the levels after some upgrades."""
    return {**dict.fromkeys(sizes, bits), **dict(steps)}
