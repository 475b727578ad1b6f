"""The overlay: what is drawn, where, and that nothing breaks it."""

from __future__ import annotations

import numpy as np
import pytest

from unifiedmllm_ros.overlay import PALETTE, colour, draw
from unifiedmllm_ros.representation import Box

GREY = np.full((480, 640, 3), 128, np.uint8)
CUP = Box(0.25, 0.25, 0.5, 0.5)
POT = Box(0.6, 0.5, 0.9, 0.9, confidence=0.87)


def count(image: np.ndarray, ink: tuple[int, int, int]) -> int:
    return int(np.all(image == ink, axis=-1).sum())


def test_each_box_has_its_own_colour_on_its_edges_and_the_image_is_left_alone() -> None:
    before = GREY.copy()
    drawn = draw(GREY, [('cup', CUP), ('pot', POT)])
    np.testing.assert_array_equal(before, GREY)
    assert tuple(drawn[180, 160]) == colour(0)
    assert tuple(drawn[300, 384]) == colour(1)
    assert tuple(drawn[200, 250]) == (128, 128, 128)


def test_masks_are_tinted_inside_and_nothing_beyond() -> None:
    labels = np.zeros((480, 640), np.uint8)
    labels[140:220, 180:300] = 1
    labels[300:400, 420:500] = 2
    drawn = draw(GREY, [('', CUP), ('', POT)], labels)
    for rows, columns, ink in ((180, 240, colour(0)), (350, 460, colour(1))):
        tint = 128 + 0.22 * (np.array(ink) - 128)
        np.testing.assert_allclose(drawn[rows, columns], tint, atol=1.5)
    assert tuple(drawn[50, 50]) == (128, 128, 128)


def test_phrases_and_confidence_are_written_on_chips() -> None:
    without = draw(GREY, [('', CUP)])
    plain = draw(GREY, [('cup', CUP)])
    long = draw(GREY, [('cup with a long name', CUP)])
    sure = draw(GREY, [('', POT)])
    unsure = draw(GREY, [('', Box(*POT.corners))])
    assert count(without, colour(0)) < count(plain, colour(0)) < count(long, colour(0))
    assert count(sure, colour(0)) > count(unsure, colour(0))


def test_chips_keep_off_each_other_and_inside_the_image() -> None:
    corner = Box(0.0, 0.0, 0.1, 0.05)
    drawn = draw(GREY, [('first thing', corner), ('second thing', corner)])
    chips = [np.argwhere(np.all(drawn == colour(index), axis=-1)) for index in (0, 1)]
    assert all(len(chip) > 500 for chip in chips)


def test_the_caption_stands_on_a_dark_strip_of_at_most_three_lines() -> None:
    short = draw(GREY, [], caption='The cup is left.')
    long = draw(GREY, [], caption='The cup is left of the pot. ' * 40)
    dark_short, dark_long = (int((image[:, 2, 0] < 100).sum()) for image in (short, long))
    assert 15 < dark_short < 50
    assert dark_short < dark_long < 120
    assert (short[-dark_short:] > 200).all(axis=-1).sum() > 50
    assert tuple(short[100, 100]) == (128, 128, 128)


def test_a_caption_without_text_leaves_no_strip() -> None:
    np.testing.assert_array_equal(draw(GREY, [], caption=' \n '), GREY)


@pytest.mark.parametrize('size', [(2, 2), (1, 700), (700, 1), (20, 30), (1500, 2000)])
def test_images_of_any_size_can_be_drawn_on(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 128, np.uint8)
    labels = np.ones(size, np.uint16)
    boxes = [('a cup', Box(0, 0, 1, 1)), ('x' * 300, Box(0.999, 0.999, 1, 1))]
    drawn = draw(image, boxes, labels, 'a rather long caption ' * 30)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert not np.array_equal(drawn, image)


@pytest.mark.parametrize(
    'text', ['tasse à café', '红色的杯子', '\U0001f600', '\ud800', '\x00', '<p>']
)
def test_any_text_can_be_drawn(text: str) -> None:
    assert draw(GREY, [(text, CUP)], caption=text).shape == GREY.shape


def test_images_that_are_views_or_read_only_can_be_drawn_on() -> None:
    view = np.broadcast_to(np.uint8(128), (48, 64, 3))
    assert draw(view, [('cup', CUP)]).any()
    assert draw(GREY[::2, ::-1], [('cup', CUP)]).shape == (240, 640, 3)


def test_a_label_map_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match='label map'):
        draw(GREY, [], np.zeros((10, 10), np.uint8))


def test_colours_repeat_after_the_palette() -> None:
    assert colour(len(PALETTE)) == colour(0)
    assert len(set(PALETTE)) == len(PALETTE)
