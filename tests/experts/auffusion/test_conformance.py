"""Vocoder, mel images and prompt embeddings of Auffusion give the numbers of the published code."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='Auffusion needs the extra [experts]')

from safetensors.torch import load_file  # noqa: E402

from unifiedmllm_ros.experts.auffusion.mel import from_image, to_image  # noqa: E402
from unifiedmllm_ros.experts.auffusion.prompts import (  # noqa: E402
    ConditionAdapter,
    embeddings,
    guided,
)
from unifiedmllm_ros.experts.auffusion.vocoder import (  # noqa: E402
    Vocoder,
    VocoderConfig,
    joined,
    pcm16,
)

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
    wave = vocoder(case)(given(f'{case}.mel'))
    close(wave, f'{case}.wave')
    wanted = tensors('io')[f'expect.{case}.int16'].numpy().astype(int)
    assert np.abs(pcm16(wave[:, 0].numpy()).astype(int) - wanted).max() <= 2


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
    close(guided(both), 'embeds.guided')
    close(guided(first, second, images=2), 'embeds.guided_negative')


def test_full_scale_is_clipped_and_does_not_wrap() -> None:
    np.testing.assert_array_equal(
        pcm16(np.array([1.0, -1.0, 0.5, -1e-9], np.float32)), [32767, -32768, 16384, 0]
    )
