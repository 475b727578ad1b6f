"""What rows begin with alike is computed once, and every row is what it would be alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unifiedmllm_ros.runtime.engine import Row
from unifiedmllm_ros.runtime.onnx_engine import OnnxEngine
from unifiedmllm_ros.runtime.slots import suffixes_of

from .conftest import HIDDEN, VISUAL_TOKENS, TinyModel

Drawn = tuple[list[int], list[tuple[int, int]], int]
PICTURES = list(np.random.default_rng(0).random((2, VISUAL_TOKENS, HIDDEN), np.float32))


def rows_of(engine: OnnxEngine, drawn: list[Drawn]) -> list[Row]:
    """Forks of one sequence, each with ids, pictures before some of them, and wanted logits."""
    base = engine.new_cache()
    engine.step([5, 6], base)
    return [
        Row(ids, base.fork(), [(before, PICTURES[which]) for before, which in shown], last)
        for ids, shown, last in drawn
    ]


@st.composite
def some(draw: st.DrawFn) -> Drawn:
    """A row of few different ids, so that many begin alike."""
    ids = draw(st.lists(st.integers(10, 11), min_size=1, max_size=8))
    places = draw(st.lists(st.integers(0, len(ids) - 1), max_size=2, unique=True))
    shown = [(place, draw(st.integers(0, 1))) for place in sorted(places)]
    return ids, shown, draw(st.integers(1, len(ids)))


def spelled(row: Row) -> list[object]:
    """The positions of a row in the order of its sequence: ids, and places in a picture."""
    pictures, positions = dict(row.pictures), []
    for place, token in enumerate(row.ids):
        if place in pictures:
            positions += [(id(pictures[place]), i) for i in range(VISUAL_TOKENS)]
        positions.append(token)
    return positions


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(drawn=st.lists(some(), min_size=2, max_size=4))
def test_rows_that_begin_alike_say_what_each_would_say_alone(
    drawn: list[Drawn], engine: OnnxEngine
) -> None:
    rows = rows_of(engine, drawn)
    wanted = [spelled(row) for row in rows]
    for suffix, mine in zip(suffixes_of(rows), wanted, strict=True):
        assert mine[: suffix.prefix] == wanted[suffix.like][: suffix.prefix]
        assert suffix.new == len(mine) - suffix.prefix
    together = engine.step_all(rows)
    later = engine.step_all([Row([7], row.cache) for row in rows])
    for row, said, next_said in zip(rows_of(engine, drawn), together, later, strict=True):
        (alone,) = engine.step_all([row])
        np.testing.assert_allclose(said, alone, atol=1e-4)
        np.testing.assert_allclose(next_said, engine.step([7], row.cache), atol=1e-4)


def test_an_image_and_what_surrounds_it_are_computed_once(engine: OnnxEngine) -> None:
    same = ([10, 11, 12], [(1, 0)])
    rows = rows_of(engine, [([*same[0], 20, 30], same[1], 1), ([*same[0], 21], same[1], 1)])
    first, second = suffixes_of(rows)
    assert (first.prefix, second.prefix) == (0, 3 + VISUAL_TOKENS)
    assert second.own().ids == [21]
    assert second.new == 1


@pytest.mark.parametrize(
    ('other', 'shared'),
    [
        (([10, 11, 20], [(1, 1)], 1), 1),
        (([10, 11, 20], [(2, 0)], 1), 1),
        (([10, 11, 20], [], 1), 1),
        (([10, 11], [(1, 0)], 2), 0),
        (([9, 11], [(1, 0)], 1), 0),
    ],
    ids=['another picture', 'at another place', 'none', 'all logits wanted', 'other ids'],
)
def test_what_differs_is_computed_for_each(engine: OnnxEngine, other: Drawn, shared: int) -> None:
    rows = rows_of(engine, [([10, 11, 12, 13], [(1, 0)], 1), other])
    assert suffixes_of(rows)[1].prefix == shared


def test_rows_of_different_sequences_have_nothing_in_common(engine: OnnxEngine) -> None:
    rows = rows_of(engine, [([10, 11, 12], [], 1), ([10, 11, 12], [], 1)])
    engine.step([8], rows[1].cache)
    assert [suffix.prefix for suffix in suffixes_of(rows)] == [0, 0]


def test_equal_rows_compute_what_each_wants_for_itself(engine: OnnxEngine) -> None:
    rows = rows_of(engine, [([10, 11, 12, 13], [], 3), ([10, 11, 12, 13], [], 1)])
    assert [suffix.new for suffix in suffixes_of(rows)] == [4, 1]


def test_equal_slots_of_other_buffers_hold_another_sequence(engine: OnnxEngine) -> None:
    caches = [engine.new_cache() for _ in range(2)]
    for token, cache in enumerate(caches):
        engine.step([token], cache)
    assert [suffix.prefix for suffix in suffixes_of([Row([5, 6], c, last=1) for c in caches])] == [
        0,
        0,
    ]


def test_a_beginning_that_is_cut_off_by_one_stays_for_the_other(
    tiny: TinyModel, engine: OnnxEngine
) -> None:
    rows = rows_of(engine, [([10, 11, 12, 20], [], 1), ([10, 11, 12, 21], [], 1)])
    engine.step_all(rows)
    rows[0].cache.truncate(3)
    engine.step([13, 14, 15], rows[0].cache)
    expected = tiny.reference(None, [5, 6, 10, 11, 12, 21, 9])[-1:]
    np.testing.assert_allclose(engine.step([9], rows[1].cache), expected, atol=1e-3)
