"""Measures of boxes and masks, against numbers worked out by hand and by brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unifiedmllm_ros.evaluation.metrics import (
    MaskScores,
    accuracy_at,
    box_iou,
    f1_at,
    iou_matrix,
    mask_iou,
    match,
    matched_ious,
)
from unifiedmllm_ros.representation import Box

LEFT = Box(0.0, 0.0, 0.4, 0.5)
RIGHT = Box(0.5, 0.0, 0.9, 0.5)


@pytest.mark.parametrize(
    ('other', 'iou'),
    [
        (LEFT, 1.0),
        (RIGHT, 0.0),
        (Box(0.4, 0.0, 0.8, 0.5), 0.0),
        (Box(0.2, 0.0, 0.6, 0.5), 1 / 3),
        (Box(0.1, 0.1, 0.3, 0.2), 0.1),
    ],
)
def test_box_iou(other: Box, iou: float) -> None:
    assert box_iou(LEFT, other) == pytest.approx(iou)
    assert box_iou(other, LEFT) == pytest.approx(iou)


def test_the_iou_matrix_has_a_row_for_each_first_and_a_column_for_each_second_box() -> None:
    matrix = iou_matrix([LEFT, RIGHT], [RIGHT, LEFT, LEFT])
    np.testing.assert_allclose(matrix, [[0, 1, 1], [1, 0, 0]])
    assert iou_matrix([], [LEFT]).shape == (0, 1)


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
        lambda shape: arrays(np.float64, shape, elements=st.floats(0, 1))
    )
)
def test_match_finds_the_greatest_sum(scores: np.ndarray) -> None:
    pairs = match(scores)
    rows, columns = zip(*pairs, strict=True)
    assert len(pairs) == min(scores.shape) == len(set(rows)) == len(set(columns))
    wide = scores if scores.shape[0] <= scores.shape[1] else scores.T
    best = max(
        sum(wide[row, column] for row, column in enumerate(chosen))
        for chosen in itertools.permutations(range(wide.shape[1]), wide.shape[0])
    )
    assert sum(scores[pair] for pair in pairs) == pytest.approx(best)


def test_match_is_quick_and_right_on_many() -> None:
    order = np.random.default_rng(0).permutation(200)
    scores = np.random.default_rng(1).random((200, 200)) * 0.5
    scores[np.arange(200), order] = 1.0
    assert match(scores) == list(enumerate(order))


def test_wanted_boxes_are_paired_one_to_one() -> None:
    near_left = Box(0.0, 0.0, 0.4, 0.4)
    assert matched_ious([LEFT, RIGHT], [RIGHT, near_left]) == pytest.approx([0.8, 1.0])
    assert matched_ious([LEFT, RIGHT], [LEFT]) == [1.0, 0.0]
    assert matched_ious([LEFT], []) == [0.0]
    assert matched_ious([], [LEFT]) == []
    # Greedy pairing would give the first wanted box the second said one and leave 0 for the other.
    a, b = Box(0.0, 0, 0.5, 1), Box(0.1, 0, 0.6, 1)
    said = [Box(0.1, 0, 0.6, 1), Box(0.0, 0, 0.4, 1)]
    assert sum(matched_ious([a, b], said)) == pytest.approx(0.8 + 1.0)


def test_accuracy_is_the_share_that_reaches_the_threshold() -> None:
    assert accuracy_at([0.5, 0.49, 0.9, 0.0]) == 0.5
    assert accuracy_at([0.5, 0.49, 0.9, 0.0], 0.75) == 0.25
    assert math.isnan(accuracy_at([]))


def test_f1_counts_missed_and_invented_boxes() -> None:
    assert f1_at([LEFT, RIGHT], [RIGHT, LEFT]) == 1.0
    assert f1_at([LEFT, RIGHT], [LEFT]) == pytest.approx(2 / 3)
    assert f1_at([LEFT], [LEFT, RIGHT]) == pytest.approx(2 / 3)
    assert f1_at([], []) == 1.0
    assert f1_at([], [LEFT]) == f1_at([LEFT], []) == f1_at([LEFT], [RIGHT]) == 0.0


def test_mask_measures() -> None:
    large, small, empty = np.zeros((3, 10, 10), bool)
    large[:, :8] = True
    half = large & (np.arange(10) < 4)
    small[0, 0] = True
    assert mask_iou(large, half) == pytest.approx(0.5)
    assert mask_iou(empty, empty) == 1.0
    assert mask_iou(small, empty) == 0.0
    scores = MaskScores()
    assert math.isnan(scores.ciou)
    assert math.isnan(scores.giou)
    assert scores.add(large, half) == pytest.approx(0.5)
    scores.add(small, small)
    scores.add(empty, empty)
    assert scores.ciou == pytest.approx((40 + 1) / (80 + 1))
    assert scores.giou == pytest.approx((0.5 + 1 + 1) / 3)


def test_masks_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match='resize'):
        mask_iou(np.zeros((2, 3), bool), np.zeros((3, 2), bool))
