"""InstructPix2Pix: images of any size, instructions, the image's weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.experts.diffusion.asking import image, pixels, request, run
from unifiedmllm_ros.errors import MissingImageError
from unifiedmllm_ros.experts.diffusion.instruct_pix2pix import InstructPix2Pix, seen_size


@pytest.fixture(scope='module')
def expert(twin: Callable[[str], Path]) -> Iterator[InstructPix2Pix]:
    made = InstructPix2Pix('ip2p', twin('instruct_pix2pix'), size=64, steps=2)
    made.load()
    yield made
    made.unload()


@pytest.mark.parametrize('size', [(64, 64), (90, 51), (1, 1), (3, 200), (301, 300)])
def test_the_result_has_the_size_of_the_image(
    expert: InstructPix2Pix, size: tuple[int, int]
) -> None:
    (made,) = run(expert, request('edit', 'make it winter', image=image(*size))).images
    assert made.shape == (*size, 3)


def test_image_instruction_and_weights_matter(expert: InstructPix2Pix) -> None:
    picture = image(64, 64)
    plain = pixels(run(expert, request('edit', 'make it winter', image=picture)))
    for other in (
        request('edit', 'make it summer', image=picture),
        request('edit', 'make it winter', image=255 - picture),
        request('edit', 'make it winter', image=picture, parameters={'image_guidance': 3.0}),
        request('edit', 'make it winter', image=picture, parameters={'guidance': 2.0}),
    ):
        assert not np.array_equal(pixels(run(expert, other)), plain)


def test_it_needs_an_image(expert: InstructPix2Pix) -> None:
    with pytest.raises(MissingImageError, match='ip2p'):
        run(expert, request('edit', 'make it winter'))


def test_the_network_sees_about_the_shape_of_the_image() -> None:
    assert seen_size(1920, 1080, 512, 8) == (512, 288)
    assert seen_size(480, 640, 512, 8) == (384, 512)
    assert seen_size(10, 10, 512, 8) == (512, 512)
    assert seen_size(4000, 10, 512, 8) == (512, 64)
