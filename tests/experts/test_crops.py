"""Crops around boxes: where they lie, what they show, and the way back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from unifiedmllm_ros.experts.crops import CROP, crop_box, crop_window, paste_logits
from unifiedmllm_ros.representation import Box
from unifiedmllm_ros.router import pixel_box


def gradient(height: int, width: int) -> np.ndarray:
    """Red rises with x, green with y, blue is 100."""
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0] = np.arange(width)[None, :]
    image[..., 1] = np.arange(height)[:, None]
    image[..., 2] = 100
    return image


def test_a_crop_is_wider_than_its_box_by_a_quarter_on_each_side() -> None:
    window = crop_window((100, 50, 164, 114))
    assert (window.left, window.top, window.width, window.height) == (84, 34, 96, 96)
    np.testing.assert_allclose(window.matrix, [[1, 0, 84], [0, 1, 34]])


def test_a_crop_shows_the_window_pixel_by_pixel_and_marks_the_box() -> None:
    crop = crop_box(gradient(200, 250), (100, 50, 164, 114))
    assert crop.shape == (4, CROP, CROP)
    assert crop.dtype == np.float32
    np.testing.assert_allclose(crop[0, 10] * 255, np.arange(84, 180), atol=0.6)
    np.testing.assert_allclose(crop[1, :, 10] * 255, np.arange(34, 130), atol=0.6)
    np.testing.assert_allclose(crop[2] * 255, 100, atol=0.6)
    expected = np.zeros((CROP, CROP))
    expected[16:80, 16:80] = 1
    np.testing.assert_array_equal(crop[3], expected)


@pytest.mark.parametrize('factor', [0.25, 0.5, 2, 3, 4.7])
def test_crops_of_one_scene_at_several_sizes_agree(factor: float) -> None:
    image = cv2.GaussianBlur(gradient(240, 240), (0, 0), 2)
    box = (60.0, 70.0, 140.0, 150.0)
    size = round(240 * factor)
    resized = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    scaled = tuple(edge * size / 240 for edge in box)
    error = np.abs(crop_box(resized, scaled) - crop_box(image, box))
    assert error.max() * 255 < 4


def test_beyond_the_edge_its_last_pixels_go_on() -> None:
    crop = crop_box(gradient(64, 64), (0, 0, 64, 64))
    assert np.all(crop[0, :, :15] == 0)
    np.testing.assert_allclose(crop[0, :, 82:] * 255, 63, atol=0.6)


def test_a_large_window_is_averaged_not_sampled() -> None:
    stripes = np.zeros((960, 960, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = crop_box(stripes, (160, 160, 800, 800))
    assert abs(crop[0, 8:-8, 8:-8].mean() - 0.5) < 0.01
    assert crop[0, 8:-8, 8:-8].std() < 0.06


@pytest.mark.parametrize(
    'box',
    [
        Box(0.2, 0.3, 0.6, 0.7),
        Box(0.0, 0.0, 0.3, 1.0),
        Box(0.7, 0.6, 1.0, 1.0),
        Box(0.0, 0.0, 1.0, 1.0),
        Box(0.4, 0.4, 0.42, 0.45),
    ],
)
@pytest.mark.parametrize('size', [(480, 640), (37, 53)])
def test_a_mask_comes_back_to_where_its_crop_was_cut(box: Box, size: tuple[int, int]) -> None:
    height, width = size
    place = pixel_box('thing', box, height, width)
    mask = paste_logits(crop_box(gradient(height, width) * 0, place.edges)[3] - 0.5, place, *size)
    rows, columns = np.mgrid[0:height, 0:width] + 0.5
    left, top, right, bottom = place.edges
    expected = (columns > left) & (columns < right) & (rows > top) & (rows < bottom)
    wrong = mask.full(height, width) ^ expected
    # At most a pixel of each edge may fall the other way, or what one cell of the crop covers.
    cell = max(1.0, 1.5 * (right - left) / CROP, 1.5 * (bottom - top) / CROP)
    assert wrong.sum() <= 2 * cell * (right - left + bottom - top + 2)


@pytest.mark.parametrize('size', [(2, 2), (2, 40000), (40000, 2), (6000, 8000)])
@pytest.mark.parametrize('box', [Box(0, 0, 1, 1), Box(0.5, 0.5, 0.501, 0.501)])
def test_images_of_any_size_are_cropped_and_pasted(size: tuple[int, int], box: Box) -> None:
    image = np.full((*size, 3), 200, np.uint8)
    place = pixel_box('thing', box, *size)
    crop = crop_box(image, place.edges)
    np.testing.assert_allclose(crop[:3], 200 / 255, atol=0.01)
    mask = paste_logits(np.ones((CROP, CROP), np.float32), place, *size)
    rows, columns = mask.window
    assert mask.area > 0
    assert rows.stop <= size[0]
    assert columns.stop <= size[1]
