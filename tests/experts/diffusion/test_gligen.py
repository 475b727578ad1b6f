"""GLIGEN from phrases and boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.experts.diffusion.asking import STEPS, pixels, region, request, run
from unifiedmllm_ros.errors import MissingRegionError
from unifiedmllm_ros.experts.diffusion.gligen import MAX_BOXES, GligenLayout

LEFT, RIGHT = (0.0, 0.2, 0.5, 0.8), (0.5, 0.2, 1.0, 0.8)


@pytest.fixture(scope='module')
def expert(twin: Callable[[str], Path]) -> Iterator[GligenLayout]:
    made = GligenLayout('gligen', twin('gligen'), width=64, height=64, steps=STEPS)
    made.load()
    yield made
    made.unload()


def made(expert: GligenLayout, *regions: object, **parameters: object) -> np.ndarray:
    return pixels(run(expert, request('layout', regions=regions, parameters=parameters)))


def test_boxes_and_phrases_matter(expert: GligenLayout) -> None:
    left = made(expert, region('mug', LEFT))
    assert not np.array_equal(left, made(expert, region('mug', RIGHT)))
    assert not np.array_equal(left, made(expert, region('plate', LEFT)))
    assert not np.array_equal(left, made(expert, region('mug', LEFT, RIGHT)))


def test_without_a_share_of_the_steps_boxes_do_not_matter(expert: GligenLayout) -> None:
    left, right = (made(expert, region('mug', box), beta=0.0) for box in (LEFT, RIGHT))
    assert np.array_equal(left, right)
    assert not np.array_equal(left, made(expert, region('mug', LEFT), beta=0.5))


def test_each_box_of_a_region_carries_its_phrase(expert: GligenLayout) -> None:
    together = made(expert, region('mug', LEFT, RIGHT))
    apart = made(expert, region('mug', LEFT), region('mug', RIGHT))
    assert np.array_equal(together, apart)


def test_more_boxes_than_fit_are_left_out_and_named(expert: GligenLayout) -> None:
    steps = [index / 50 for index in range(50)]
    boxes = [region(f'thing {i}', (x, 0.1, x + 0.02, 0.9)) for i, x in enumerate(steps)]
    result = run(expert, request('layout', regions=boxes))
    (notice,) = result.provenance.notices
    assert notice.startswith(f'20 of 50 boxes were left out (thing {MAX_BOXES}, ')
    assert result.provenance.parameters['boxes'] == MAX_BOXES
    assert np.array_equal(pixels(result), made(expert, *boxes[:MAX_BOXES]))


def test_a_long_phrase_is_cut_off_and_told_of(expert: GligenLayout) -> None:
    result = run(expert, request('layout', regions=[region('mug ' * 1000, LEFT)]))
    assert any('1 of 1 phrases were cut off' in notice for notice in result.provenance.notices)


def test_the_smallest_box_there_is_does_no_harm(expert: GligenLayout) -> None:
    assert made(expert, region('mug', (0.999, 0.999, 1.0, 1.0))).shape == (1, 64, 64, 3)


def test_it_needs_a_box(expert: GligenLayout) -> None:
    with pytest.raises(MissingRegionError, match='task gen'):
        run(expert, request('layout'))
