"""Mixtures: shares, restarts, order, and bad weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice

import pytest

from unifiedmllm_ros.data.mixing import mix
from unifiedmllm_ros.errors import ConfigError


def _few() -> Iterator[int]:
    return iter(range(3))


def _many() -> Iterator[int]:
    return iter(range(10_000))


def test_shares_follow_the_weights() -> None:
    drawn = islice(mix({'few': _few, 'many': _many}, {'few': 3, 'many': 1}), 4000)
    counts = Counter(name for name, _ in drawn)
    assert counts['few'] / 4000 == pytest.approx(0.75, abs=0.03)


def test_used_up_sources_start_again_in_order() -> None:
    assert [item for _, item in islice(mix({'few': _few}, {'few': 1}), 7)] == [0, 1, 2, 0, 1, 2, 0]


def test_seed_decides_the_order() -> None:
    def draw(seed: int) -> list[tuple[str, int]]:
        return list(islice(mix({'a': _few, 'b': _many}, {'a': 1, 'b': 1}, seed), 50))

    assert draw(1) == draw(1) != draw(2)


@pytest.mark.parametrize('weight', [0.0, -1.0, float('nan'), float('inf')])
def test_bad_weight(weight: float) -> None:
    with pytest.raises(ConfigError, match='weight of few'):
        mix({'few': _few}, {'few': weight})


def test_names_must_agree() -> None:
    with pytest.raises(ConfigError, match='name the same'):
        mix({'few': _few}, {'many': 1})


def test_empty_source() -> None:
    with pytest.raises(ConfigError, match='source none is empty'):
        next(mix({'none': lambda: iter(())}, {'none': 1}))
