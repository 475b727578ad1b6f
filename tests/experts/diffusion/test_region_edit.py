"""Edits in boxes: everything else keeps its bits, whatever the size of the image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.experts.diffusion.asking import image, pixels, region, request, run
from unifiedmllm_ros.errors import MissingImageError, MissingRegionError
from unifiedmllm_ros.experts.base import ImageResult
from unifiedmllm_ros.experts.diffusion.region_edit import GligenInpaint, Inpaint

EXPERTS: dict[str, Callable[..., Any]] = {
    'gligen_inpaint': GligenInpaint,
    'stable_diffusion_inpaint': lambda name, folder, **more: Inpaint(name, folder, size=64, **more),
}
MUG = (0.3, 0.4, 0.6, 0.7)


@pytest.fixture(scope='module', params=list(EXPERTS))
def expert(request: pytest.FixtureRequest, twin: Callable[[str], Path]) -> Iterator[Any]:
    made = EXPERTS[request.param](request.param, twin(request.param), steps=2)
    made.load()
    yield made
    made.unload()


def edit(
    expert: Any, picture: np.ndarray, *regions: Any, say: str = 'replace it with a cup', **more: Any
) -> ImageResult:
    asked = request('regedit', say, image=picture, regions=regions, parameters=more)
    result = run(expert, asked)
    assert isinstance(result, ImageResult)
    return result


def distance(shape: tuple[int, ...], *boxes: tuple[float, float, float, float]) -> np.ndarray:
    """Of each pixel to the nearest one that a box touches; by its definition, slowly."""
    height, width = shape[:2]
    y, x = np.mgrid[:height, :width]
    nearest = np.full((height, width), np.inf)
    for x1, y1, x2, y2 in boxes:
        left, right = np.floor(x1 * width + 1e-6), np.ceil(x2 * width - 1e-6) - 1
        top, bottom = np.floor(y1 * height + 1e-6), np.ceil(y2 * height - 1e-6) - 1
        across = np.maximum(np.maximum(left - x, x - right), 0)
        down = np.maximum(np.maximum(top - y, y - bottom), 0)
        nearest = np.minimum(nearest, np.hypot(across, down))
    return nearest


@pytest.mark.parametrize(
    'size', [(64, 64), (90, 70), (50, 200), (301, 97), (7, 5), (1, 1), (200, 20)]
)
def test_pixels_beyond_the_feathered_box_keep_their_bits(
    expert: Any, size: tuple[int, int]
) -> None:
    picture = image(*size)
    before = picture.copy()
    (made,) = edit(expert, picture, region('mug', MUG), feather=3).images
    assert np.array_equal(picture, before)
    assert made.shape == picture.shape
    away = distance(picture.shape, MUG)
    assert np.array_equal(made[away > 3], picture[away > 3])
    inside = made[away == 0] != picture[away == 0]
    assert inside.mean() > 0.5


def test_without_feather_the_box_alone_changes(expert: Any) -> None:
    picture = image(80, 120)
    (made,) = edit(expert, picture, region('mug', MUG), feather=0).images
    away = distance(picture.shape, MUG)
    assert np.array_equal(made[away > 0], picture[away > 0])
    assert (made != picture).any()


def test_where_the_box_is_matters_not_only_where_it_is_laid(expert: Any) -> None:
    picture = np.full((64, 64, 3), 90, np.uint8)
    first, second = (
        edit(expert, picture, region('mug', box), feather=0, context=8.0).images[0]
        for box in ((0.0, 0.0, 0.5, 0.5), (0.5, 0.5, 1.0, 1.0))
    )
    assert not np.array_equal(first[:32, :32], second[32:, 32:])


def test_a_box_of_one_pixel_is_painted(expert: Any) -> None:
    picture = image(200, 500)
    (made,) = edit(expert, picture, region('crumb', (0.5, 0.5, 0.502, 0.505)), feather=0).images
    changed = np.argwhere((made != picture).any(axis=2))
    assert changed.tolist() == [[100, 250]]


def test_fifty_boxes(expert: Any) -> None:
    picture = image(100, 100)
    boxes = [(i / 50, 0.1, (i + 1) / 50, 0.3) for i in range(50)]
    result = edit(expert, picture, region('mug', *boxes), feather=0)
    kept = result.provenance.parameters['boxes']
    assert kept == (30 if expert.name == 'gligen_inpaint' else 50)
    assert bool(result.provenance.notices) == (kept < 50)
    away = distance(picture.shape, *boxes[:kept])
    assert np.array_equal(result.images[0][away > 0], picture[away > 0])


def test_removing_asks_for_an_empty_place(expert: Any) -> None:
    picture = image(64, 64)
    source = edit(expert, picture, region('mug', MUG), say='remove the mug').provenance
    effective = source.parameters
    assert (effective['operation'], effective['prompt']) == ('remove', 'empty background')
    assert effective['negative_prompt'] == 'mug'
    assert any('GLIGEN places things' in n for n in source.notices) == (
        expert.name == 'gligen_inpaint'
    )


def test_what_is_wanted_is_the_prompt(expert: Any) -> None:
    picture = image(64, 64)
    result = edit(expert, picture, region('mug', MUG), say='replace the mug with a red apple.')
    assert result.provenance.parameters['prompt'] == 'a red apple'
    other = edit(expert, picture, region('mug', MUG), say='replace the mug with a pear')
    assert not np.array_equal(pixels(result), pixels(other))


def test_it_needs_an_image_and_a_box(expert: Any) -> None:
    with pytest.raises(MissingRegionError, match='region'):
        run(expert, request('regedit', 'remove it', image=image()))
    with pytest.raises(MissingImageError, match=expert.name):
        run(expert, request('regedit', 'remove it'))
