"""What every diffusion expert owes: the same bits for a seed, progress, a cancel within a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.experts.diffusion.asking import SEED, STEPS, Heard, image, pixels, region, request, run
from unifiedmllm_ros.errors import Cancelled, RequestError
from unifiedmllm_ros.experts.base import Expert, Request
from unifiedmllm_ros.experts.diffusion.gligen import GligenLayout
from unifiedmllm_ros.experts.diffusion.instruct_pix2pix import InstructPix2Pix
from unifiedmllm_ros.experts.diffusion.region_edit import GligenInpaint, Inpaint
from unifiedmllm_ros.experts.diffusion.text_to_image import TextToImage
from unifiedmllm_ros.experts.diffusion.video import ImageToVideo, TextToVideo

SQUARE: dict[str, Any] = {'width': 64, 'height': 64}
CLIP: dict[str, Any] = {**SQUARE, 'frames': 4}
MUG = (region('mug', (0.2, 0.2, 0.6, 0.7)),)
REPLACE = 'replace the mug with a cup'

FAMILIES: dict[str, tuple[Any, dict[str, Any], Callable[[], Request]]] = {
    'stable_diffusion': (TextToImage, SQUARE, lambda: request('gen')),
    'sdxl': (
        TextToImage,
        {**SQUARE, 'pipeline': 'StableDiffusionXLPipeline'},
        lambda: request('gen'),
    ),
    'flux': (
        TextToImage,
        {**SQUARE, 'pipeline': 'FluxPipeline', 'arguments': {'max_sequence_length': 48}},
        lambda: request('gen'),
    ),
    'gligen': (GligenLayout, SQUARE, lambda: request('layout', regions=MUG)),
    'instruct_pix2pix': (
        InstructPix2Pix,
        {'size': 64},
        lambda: request('edit', 'make it winter', image=image(48, 64)),
    ),
    'gligen_inpaint': (
        GligenInpaint,
        {},
        lambda: request('regedit', REPLACE, image=image(90, 70), regions=MUG),
    ),
    'stable_diffusion_inpaint': (
        Inpaint,
        {'size': 64},
        lambda: request('regedit', REPLACE, image=image(90, 70), regions=MUG),
    ),
    'modelscope_t2v': (TextToVideo, CLIP, lambda: request('vidgen')),
    'wan': (
        TextToVideo,
        {
            'width': 32,
            'height': 32,
            'frames': 5,
            'pipeline': 'WanPipeline',
            'arguments': {'max_sequence_length': 48},
        },
        lambda: request('vidgen'),
    ),
    'i2vgen_xl': (ImageToVideo, CLIP, lambda: request('imgvid', image=image(50, 90))),
}


class Family:
    """A loaded expert, what it is asked, and its answer when nothing disturbs it."""

    def __init__(self, name: str, folder: Path) -> None:
        kind, defaults, asked = FAMILIES[name]
        self.name = name
        self.expert = kind(name, folder, steps=STEPS, **defaults)
        self.asked: Callable[[], Request] = asked
        self.heard = Heard()
        self.result = self.expert.run(asked(), self.heard, self.heard.cancel)


@pytest.fixture(scope='module', params=list(FAMILIES))
def family(request: pytest.FixtureRequest, twin: Callable[[str], Path]) -> Iterator[Family]:
    one = Family(request.param, twin(request.param))
    yield one
    one.expert.unload()


def test_it_is_an_expert_with_a_result_of_the_size_asked_for(family: Family) -> None:
    assert isinstance(family.expert, Expert)
    made, asked = pixels(family.result), family.asked()
    assert made.dtype == np.uint8
    assert made.ndim == 4
    if asked.task in ('edit', 'regedit'):
        assert asked.image is not None
        assert made.shape == (1, *asked.image.shape)
    assert np.ptp(made) > 0


def test_a_seed_decides_every_bit(family: Family) -> None:
    import torch

    torch.manual_seed(99)  # what others drew before does not matter
    before = torch.get_rng_state()
    again = run(family.expert, family.asked())
    assert np.array_equal(pixels(again), pixels(family.result))
    assert torch.equal(torch.get_rng_state(), before)
    asked = family.asked()
    other = Request(asked.task, asked.argument, asked.image, asked.regions, asked.boxes, SEED + 1)
    assert not np.array_equal(pixels(run(family.expert, other)), pixels(family.result))


def test_progress_rises_to_one_through_all_phases(family: Family) -> None:
    fractions = [one.fraction for one in family.heard]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert list(dict.fromkeys(one.phase for one in family.heard)) == ['encode', 'denoise', 'decode']
    assert family.heard.steps == STEPS


@pytest.mark.parametrize('step', [0, 1])
def test_a_cancel_stops_within_a_step_and_leaves_no_trace(family: Family, step: int) -> None:
    heard = Heard(stop_after=step)

    with pytest.raises(Cancelled, match=family.name):
        family.expert.run(family.asked(), heard, heard.cancel)
    assert step <= heard.steps < step + 2
    assert 'decode' not in [one.phase for one in heard]
    again = run(family.expert, family.asked())
    assert np.array_equal(pixels(again), pixels(family.result))


def test_a_cancel_is_heard_while_encoding_and_decoding(family: Family) -> None:
    for phase in ('encode', 'decode'):
        heard = Heard()
        with pytest.raises(Cancelled):
            family.expert.run(family.asked(), heard, partial(_in, heard, phase))
        assert heard[-1].fraction < 1.0
    assert np.array_equal(pixels(run(family.expert, family.asked())), pixels(family.result))


def _in(heard: Heard, phase: str) -> bool:
    # Decoding is one call for most: a cancel in its last step is heard before it.
    if phase == 'decode' and heard.steps == STEPS:
        return True
    return bool(heard) and heard[-1].phase == phase


def test_nothing_of_a_job_stays_on_the_pipeline(family: Family) -> None:
    pipeline = family.expert._loaded.pipeline
    assert 'progress_bar' not in vars(pipeline)
    for part in pipeline.components.values():
        for module in getattr(part, 'modules', tuple)():
            assert not module._forward_pre_hooks


def test_the_provenance_says_what_ran(family: Family) -> None:
    source = family.result.provenance
    assert (source.expert, source.backend) == (family.name, 'diffusers')
    assert (source.seed, source.device, source.dtype) == (SEED, 'cpu', 'float32')
    assert 'diffusion_pytorch_model.safetensors sha256:' in source.weights
    assert source.duration_ms > 0
    effective = source.parameters
    assert effective['steps'] == STEPS
    assert effective['effective_steps'] == STEPS + (effective['scheduler'] == 'PNDMScheduler')
    assert effective['denoiser_calls'] >= effective['effective_steps']
    assert effective['guidance'] == family.expert._options.guidance
    assert effective['offload'] == 'resident'
    assert effective['pipeline'] == type(family.expert._loaded.pipeline).__name__


def test_a_prompt_of_5000_characters_is_cut_and_told_of(family: Family) -> None:
    asked = family.asked()
    long = Request(
        asked.task, 'mug ' * 1250, asked.image, asked.regions, asked.boxes, SEED, {'steps': 2}
    )
    result = run(family.expert, long)
    assert any('were left out' in notice for notice in result.provenance.notices)
    assert not any('were left out' in notice for notice in family.result.provenance.notices)


@pytest.mark.parametrize(
    ('parameters', 'named'),
    [
        ({'steps': 0}, 'steps'),
        ({'steps': 'many'}, 'steps'),
        ({'guidance': float('nan')}, 'guidance'),
        ({'stpes': 3}, 'stpes'),
        ({'device': 'cuda'}, 'device'),
        ({'scheduler': 'os.system'}, 'os.system'),
        ({'arguments': {'colour': 'red'}}, 'colour'),
    ],
)
def test_wrong_parameters_are_refused_by_name(
    family: Family, parameters: dict[str, Any], named: str
) -> None:
    asked = family.asked()
    wrong = Request(
        asked.task, asked.argument, asked.image, asked.regions, asked.boxes, SEED, parameters
    )
    with pytest.raises(RequestError, match=named):
        run(family.expert, wrong)
