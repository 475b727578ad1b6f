"""Masks and label maps."""

from __future__ import annotations

import numpy as np
import pytest

from unifiedmllm_ros.errors import ImageError
from unifiedmllm_ros.masks import Mask, label_map
from unifiedmllm_ros.representation import Box

BOX = Box(0, 0, 1, 1)


def square(left: int, top: int, size: int, phrase: str = 'x') -> Mask:
    return Mask(phrase, BOX, left, top, np.ones((size, size), bool))


def test_a_mask_lies_at_its_window() -> None:
    pixels = np.array([[True, False, True], [False, True, False]])
    full = Mask('x', BOX, 2, 1, pixels).full(4, 6)
    assert full.shape == (4, 6)
    np.testing.assert_array_equal(np.argwhere(full), [[1, 2], [1, 4], [2, 3]])
    assert Mask('x', BOX, 2, 1, pixels).area == 3


def test_labels_are_counted_from_one_in_the_order_of_the_masks() -> None:
    labels, names = label_map([square(0, 0, 2, 'cup'), square(4, 4, 1, 'pot')], 6, 6)
    assert labels.dtype == np.uint8
    assert names == ('cup', 'pot')
    assert labels[0, 0] == labels[1, 1] == 1
    assert labels[4, 4] == 2
    assert np.count_nonzero(labels) == 5


@pytest.mark.parametrize('turned', [False, True])
def test_the_smaller_of_overlapping_masks_lies_on_top(turned: bool) -> None:
    masks = [square(0, 0, 6, 'tray'), square(2, 2, 2, 'cup')]
    labels, names = label_map(masks[::-1] if turned else masks, 6, 6)
    assert names[labels[2, 2] - 1] == 'cup'
    assert names[labels[0, 0] - 1] == 'tray'


def test_more_than_255_masks_need_16_bits() -> None:
    masks = [square(i % 20, i // 20, 1) for i in range(300)]
    assert label_map(masks[:255], 20, 20)[0].dtype == np.uint8
    labels, _ = label_map(masks, 20, 20)
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels.ravel()[:300], np.arange(1, 301))


def test_no_masks_are_all_background() -> None:
    labels, names = label_map([], 3, 5)
    assert labels.shape == (3, 5)
    assert not labels.any()
    assert names == ()


def test_more_masks_than_labels_are_refused() -> None:
    with pytest.raises(ImageError, match='65535'):
        label_map([square(0, 0, 1)] * 65_536, 2, 2)
