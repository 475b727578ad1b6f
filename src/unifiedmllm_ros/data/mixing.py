"""A stream that draws from several sources by weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import TypeVar

from unifiedmllm_ros.errors import ConfigError

Item = TypeVar('Item')


def mix(
    sources: Mapping[str, Callable[[], Iterator[Item]]], weights: Mapping[str, float], seed: int = 0
) -> Iterator[tuple[str, Item]]:
    """Yield (name, item) without end, each source as often as its weight says.

    sources: name -> a function that starts the source anew; one that is used up starts again.
    weights: name -> share, any positive scale. The same seed gives the same order. Raises
    ConfigError where names differ, a weight is not positive, or a source is empty.
    """
    if sources.keys() != weights.keys() or not sources:
        raise ConfigError(
            f'weights are for {sorted(weights)}, sources are {sorted(sources)}: name the same'
        )
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight > 0):
            raise ConfigError(f'weight of {name} is {weight}: give a positive number')
    return _drawn(dict(sources), [weights[name] for name in sources], Random(seed))


def _drawn(
    sources: dict[str, Callable[[], Iterator[Item]]], weights: list[float], rng: Random
) -> Iterator[tuple[str, Item]]:
    running = {name: start() for name, start in sources.items()}
    names = list(sources)
    while True:
        name = rng.choices(names, weights)[0]
        try:
            item = next(running[name])
        except StopIteration:
            running[name] = sources[name]()
            try:
                item = next(running[name])
            except StopIteration:
                raise ConfigError(f'source {name} is empty: leave it out of the mixture') from None
        yield name, item
