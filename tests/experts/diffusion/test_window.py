"""Windows: the square that the network sees, and the way back."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from unifiedmllm_ros.experts.base import PixelBox
from unifiedmllm_ros.experts.diffusion.window import Window, feathered, window_around
from unifiedmllm_ros.representation import Box
from unifiedmllm_ros.router import pixel_box

SIDES = st.integers(1, 400)
CORNERS = st.lists(st.integers(0, 1000), min_size=2, max_size=2, unique=True).map(sorted)


@st.composite
def boxes_of_an_image(draw: st.DrawFn) -> tuple[int, int, list[PixelBox]]:
    height, width = draw(SIDES), draw(SIDES)
    boxes = []
    for _ in range(draw(st.integers(1, 4))):
        (x1, x2), (y1, y2) = draw(CORNERS), draw(CORNERS)
        box = Box(x1 / 1000, y1 / 1000, x2 / 1000, y2 / 1000)
        boxes.append(pixel_box('thing', box, height, width))
    return height, width, boxes


@given(boxes_of_an_image(), st.floats(1.0, 8.0), st.sampled_from([64, 96, 512, 768]))
def test_a_window_holds_all_boxes_and_most_of_it_is_image(
    case: tuple[int, int, list[PixelBox]], context: float, size: int
) -> None:
    height, width, boxes = case
    window = window_around(boxes, height, width, context, size)
    assert 1 <= window.side <= max(height, width)
    for box in boxes:
        assert window.left <= box.left
        assert box.right <= window.left + window.side
        assert window.top <= box.top
        assert box.bottom <= window.top + window.side
    if window.side <= min(height, width):
        assert min(window.left, window.top) >= 0
        assert window.left + window.side <= width
        assert window.top + window.side <= height


@given(boxes_of_an_image(), st.sampled_from([64, 96, 344, 512, 768]))
def test_a_box_covers_its_latent_pixels_in_every_pipeline(
    case: tuple[int, int, list[PixelBox]], size: int
) -> None:
    height, width, boxes = case
    window = window_around(boxes, height, width, 1.5, size)
    count = size // 8
    for box in boxes:
        left, top, right, bottom = window.cells(box, size)
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        # GLIGEN's pipeline multiplies and rounds down.
        cells = [int(edge * count) for edge in (left, top, right, bottom)]
        scale = count / window.side
        exact = [
            (box.left - window.left) * scale,
            (box.top - window.top) * scale,
            (box.right - window.left) * scale,
            (box.bottom - window.top) * scale,
        ]
        assert all(c <= e + 1e-5 for c, e in zip(cells[:2], exact[:2], strict=True))
        assert all(c >= e - 1e-5 for c, e in zip(cells[2:], exact[2:], strict=True))
        assert cells[2] - cells[0] >= 1
        assert cells[3] - cells[1] >= 1
        assert window.mask([box], size).any()


def test_a_cut_goes_on_beyond_the_edge() -> None:
    picture = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    cut = Window(0, -1, 4).cut(picture, 4)
    assert np.array_equal(cut, picture[[0, 0, 1, 1]])


def test_what_is_pasted_back_unchanged_changes_nothing() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 64, 3), np.uint8)
    window = Window(10, -4, 48)
    everywhere = np.ones((40, 64), np.float32)
    assert np.array_equal(window.paste(picture, window.cut(picture, 48), everywhere), picture)


def test_the_feather_falls_linearly() -> None:
    box = pixel_box('thing', Box(0.4, 0.4, 0.6, 0.6), 10, 20)
    weight = feathered([box], 10, 20, 3)
    assert weight[4, 8:12].tolist() == [1, 1, 1, 1]
    assert weight[4, 12:17].tolist() == [0.75, 0.5, 0.25, 0, 0]
    assert feathered([box], 10, 20, 0).sum() == 8
