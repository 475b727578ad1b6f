"""Text to image: sizes, several images, schedulers, previews, the safety checker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.experts.diffusion.asking import STEPS, Heard, pixels, request, run
from unifiedmllm_ros.cancellation import never
from unifiedmllm_ros.errors import ExpertError, ModelError
from unifiedmllm_ros.experts.diffusion.text_to_image import TextToImage

SIZE = {'width': 64, 'height': 64, 'steps': STEPS}


@pytest.fixture(scope='module')
def expert(twin: Callable[[str], Path]) -> Iterator[TextToImage]:
    made = TextToImage('sd', twin('stable_diffusion'), **SIZE)
    made.load()
    yield made
    made.unload()


def test_the_prompt_and_what_is_unwanted_matter(expert: TextToImage) -> None:
    plain = pixels(run(expert, request('gen')))
    assert not np.array_equal(plain, pixels(run(expert, request('gen', 'a blue plate'))))
    unwanted = request('gen', parameters={'negative_prompt': 'blurry'})
    assert not np.array_equal(plain, pixels(run(expert, unwanted)))


def test_images_have_the_size_asked_for_or_the_next_smaller_one(expert: TextToImage) -> None:
    made = run(expert, request('gen', parameters={'width': 101, 'height': 72, 'images': 2}))
    assert [one.shape for one in made.images] == [(72, 96, 3)] * 2
    assert not np.array_equal(*made.images)
    assert any('101x72 became 96x72' in notice for notice in made.provenance.notices)
    assert (made.provenance.parameters['width'], made.provenance.parameters['images']) == (96, 2)


def test_a_scheduler_can_be_chosen_for_one_request(expert: TextToImage) -> None:
    plain = pixels(run(expert, request('gen')))
    chosen = run(expert, request('gen', parameters={'scheduler': 'EulerDiscreteScheduler'}))
    assert chosen.provenance.parameters['scheduler'] == 'EulerDiscreteScheduler'
    assert chosen.provenance.parameters['effective_steps'] == STEPS
    assert not np.array_equal(pixels(chosen), plain)
    again = run(expert, request('gen'))
    assert again.provenance.parameters['scheduler'] == 'PNDMScheduler'
    assert np.array_equal(pixels(again), plain)


def test_previews_are_pictures_of_the_latents(expert: TextToImage) -> None:
    heard = Heard()
    expert.run(request('gen', parameters={'preview_every': 2, 'steps': 4}), heard, never)
    shown = [one.preview for one in heard if one.preview is not None]
    assert [one.shape for one in shown] == [(8, 8, 3)] * 2
    assert all(one.dtype == np.uint8 for one in shown)
    assert not np.array_equal(*shown)


@pytest.mark.parametrize('name', ['flagging', 'passing'])
def test_what_the_safety_checker_blacks_out_is_said(twin: Callable[[str], Path], name: str) -> None:
    result = run(TextToImage('sd', twin(name), **SIZE), request('gen'))
    black = not pixels(result).any()
    told = any('safety checker' in notice for notice in result.provenance.notices)
    assert black == told == (name == 'flagging')
    assert result.provenance.parameters['safety_checker'] is True


def test_the_safety_checker_can_be_left_out(twin: Callable[[str], Path]) -> None:
    expert = TextToImage('sd', twin('flagging'), safety_checker=False, **SIZE)
    result = run(expert, request('gen'))
    assert pixels(result).any()
    assert result.provenance.parameters['safety_checker'] is False


def test_numbers_that_are_none_are_an_error_and_no_image(twin: Callable[[str], Path]) -> None:
    import torch

    expert = TextToImage('sd', twin('stable_diffusion'), **SIZE)
    expert.load()
    with torch.no_grad():
        next(expert._loaded.pipeline.unet.parameters()).fill_(float('nan'))  # type: ignore[union-attr]
    with pytest.raises(ModelError, match='not finite in float32: set dtype'):
        run(expert, request('gen'))


@contextmanager
def broken(expert: TextToImage, error: Exception) -> Iterator[None]:
    """Raise an error in the middle of the U-Net."""

    def stumble(module: Any, arguments: Any) -> None:
        raise error

    loaded = expert._loaded
    assert loaded is not None
    hook = loaded.pipeline.unet.mid_block.register_forward_pre_hook(stumble)
    try:
        yield
    finally:
        hook.remove()


def test_a_lack_of_memory_reaches_who_can_make_room(expert: TextToImage) -> None:
    import torch

    plain = pixels(run(expert, request('gen')))
    with (
        broken(expert, torch.OutOfMemoryError('no memory is left')),
        pytest.raises(torch.OutOfMemoryError),
    ):
        run(expert, request('gen'))
    assert np.array_equal(pixels(run(expert, request('gen'))), plain)


def test_what_goes_wrong_in_a_pipeline_is_told(expert: TextToImage) -> None:
    plain = pixels(run(expert, request('gen')))
    told = r"'sd' failed in StableDiffusionPipeline \(an odd shape\)"
    with broken(expert, ValueError('an odd shape')), pytest.raises(ExpertError, match=told):
        run(expert, request('gen'))
    assert np.array_equal(pixels(run(expert, request('gen'))), plain)


def test_half_precision_runs(twin: Callable[[str], Path]) -> None:
    expert = TextToImage('sd', twin('stable_diffusion'), dtype='bfloat16', **SIZE)
    result = run(expert, request('gen'))
    assert result.provenance.dtype == 'bfloat16'
    assert np.array_equal(pixels(result), pixels(run(expert, request('gen'))))


def test_an_unloaded_expert_loads_again(twin: Callable[[str], Path]) -> None:
    expert = TextToImage('sd', twin('stable_diffusion'), **SIZE)
    first = pixels(run(expert, request('gen')))
    expert.unload()
    assert expert._loaded is None
    assert np.array_equal(pixels(run(expert, request('gen'))), first)


def test_an_argument_the_pipeline_knows_reaches_it(expert: TextToImage) -> None:
    plain = pixels(run(expert, request('gen')))
    rescaled = request('gen', parameters={'arguments': {'guidance_rescale': 0.7}})
    assert not np.array_equal(pixels(run(expert, rescaled)), plain)
