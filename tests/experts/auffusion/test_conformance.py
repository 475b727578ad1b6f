"""Vocoder, mel images and prompt embeddings of Auffusion give the numbers of the published code."""

from __future__ import annotations

import json
import wave
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='Auffusion needs the extra [experts]')

from safetensors.torch import load_file  # noqa: E402

from unifiedmllm_ros.experts.auffusion.mel import RATE, from_image, to_image  # noqa: E402
from unifiedmllm_ros.experts.auffusion.prompts import (  # noqa: E402
    ConditionAdapter,
    embeddings,
)
from unifiedmllm_ros.experts.auffusion.vocoder import (  # noqa: E402
    Vocoder,
    VocoderConfig,
    joined,
)
from unifiedmllm_ros.experts.base import Provenance  # noqa: E402
from unifiedmllm_ros.experts.files import write_wav  # noqa: E402

DATA = Path(__file__).resolve().parents[2] / 'data'
ABOUT = json.loads((DATA / 'auffusion_vocoder_tiny.json').read_text(encoding='utf-8'))


@cache
def tensors(kind: str) -> dict[str, Any]:
    return load_file(DATA / f'auffusion_vocoder_tiny.{kind}.safetensors')


def given(name: str) -> Any:
    return tensors('io')[f'input.{name}']


def close(found: Any, name: str) -> None:
    wanted = tensors('io')[f'expect.{name}']
    assert found.shape == wanted.shape, name
    torch.testing.assert_close(found, wanted, atol=5e-5, rtol=1e-5, msg=lambda m: f'{name}: {m}')


def part(prefix: str) -> dict[str, Any]:
    weights = tensors('weights')
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


@cache
def vocoder(case: str) -> Vocoder:
    model = Vocoder(VocoderConfig.model_validate(ABOUT['config']['vocoder'][case]))
    model.load_state_dict(joined(part(f'{case}.')))
    return model.eval().requires_grad_(False)


@cache
def adapters() -> tuple[ConditionAdapter, ...]:
    found = []
    for index, sizes in enumerate(ABOUT['config']['adapters']):
        found.append(ConditionAdapter(**sizes).requires_grad_(False))
        found[-1].load_state_dict(part(f'adapter.{index}.'))
    return tuple(found)


def prompt(name: str) -> Any:
    states = [given(f'embeds.{name}.hidden.{index}') for index in range(2)]
    return embeddings(states, adapters())


@pytest.mark.parametrize('case', ['v1', 'v2'])
def test_the_vocoder_gives_the_published_wave(case: str) -> None:
    close(vocoder(case)(given(f'{case}.mel')), f'{case}.wave')


def test_mel_images_and_back() -> None:
    image = to_image(given('norm.log_mel'))
    close(image, 'norm.image')
    close(from_image(image), 'norm.round_trip')
    close(from_image(given('denorm.image')), 'denorm.log_mel')
    close(from_image(given('denorm.image')[:1]), 'denorm.log_mel_one_channel')


def test_from_an_image_to_a_wave() -> None:
    close(vocoder('v1')(from_image(given('denorm.image'))[None]), 'chain.wave')


def test_prompt_embeddings_of_two_encoders() -> None:
    first, second = prompt('p0'), prompt('p1')
    close(first, 'embeds.p0')
    both = torch.cat((first, second))
    close(both, 'embeds.batch')
    close(guided(both, torch.zeros_like(both)), 'embeds.guided')
    close(guided(first, second, images=2), 'embeds.guided_negative')


def guided(prompts: Any, negatives: Any, images: int = 1) -> Any:
    """What the pipeline makes of the embeddings that the expert gives it."""
    pipeline = pytest.importorskip('diffusers').StableDiffusionPipeline
    parts = SimpleNamespace(text_encoder=None, unet=SimpleNamespace(dtype=torch.float32))
    one = pipeline.encode_prompt(
        parts,
        None,
        'cpu',
        images,
        True,
        prompt_embeds=prompts,
        negative_prompt_embeds=negatives,
    )
    return torch.cat((one[1], one[0]))


@pytest.mark.parametrize('case', ['v1', 'v2'])
def test_saved_samples_are_the_published_ones(case: str, tmp_path: Path) -> None:
    source = Provenance('auffusion', 'diffusers', '', 0, {}, 0.0)
    wanted = tensors('io')[f'expect.{case}.int16'].numpy().astype(int)
    for samples, ours in zip(vocoder(case)(given(f'{case}.mel')), wanted, strict=True):
        path = write_wav(tmp_path / 'a.wav', samples[0].numpy(), RATE, source)
        with wave.open(str(path)) as file:
            saved = np.frombuffer(file.readframes(file.getnframes()), '<i2').astype(int)
        assert np.abs(saved - ours).max() <= 2
