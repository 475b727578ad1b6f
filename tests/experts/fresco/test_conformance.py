"""The functions of FRESCO give the numbers of the published code."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='FRESCO needs the extra [experts]')
pytest.importorskip('diffusers', reason='FRESCO needs the extra [experts]')

from safetensors.torch import load_file  # noqa: E402

from unifiedmllm_ros.experts.fresco import features as feature  # noqa: E402
from unifiedmllm_ros.experts.fresco.attention import Guidance, GuidedAttention  # noqa: E402
from unifiedmllm_ros.experts.fresco.correspondence import (  # noqa: E402
    Trajectories,
    cross_frame_mask,
    matched,
)
from unifiedmllm_ros.experts.fresco.keyframes import changes, key_frames  # noqa: E402
from unifiedmllm_ros.experts.fresco.pairs import FramePairs, hidden_by_flow, warp  # noqa: E402

DATA = Path(__file__).resolve().parents[2] / 'data'
ABOUT = json.loads((DATA / 'fresco_functions.json').read_text(encoding='utf-8'))
SIZES = [8, 16]


@cache
def tensors(kind: str) -> dict[str, Any]:
    return load_file(DATA / f'fresco_functions.{kind}.safetensors')


def given(name: str) -> Any:
    return tensors('io')[f'input.{name}']


def expected(name: str) -> Any:
    return tensors('io')[f'expect.{name}']


def close(found: Any, name: str, atol: float = 2e-4, rtol: float = 1e-5) -> None:
    wanted = expected(name)
    assert found.shape == wanted.shape, name
    torch.testing.assert_close(found, wanted, atol=atol, rtol=rtol, msg=lambda m: f'{name}: {m}')


@cache
def pairs() -> FramePairs:
    return FramePairs.from_flow(
        given('frames').float(), given('flow.forward'), given('flow.backward')
    )


def test_frames_are_warped() -> None:
    close(warp(given('frames').float(), given('flow.backward')), 'warp.frames', atol=0.02)


def test_what_is_hidden() -> None:
    there, back = given('flow.forward'), given('flow.backward')
    for found, name in (
        (hidden_by_flow(there, back), 'flow_only.forward'),
        (hidden_by_flow(back, there), 'flow_only.backward'),
        (pairs().hidden_forward, 'forward'),
        (pairs().hidden_backward, 'backward'),
    ):
        assert torch.equal(found.float(), expected(f'occlusion.{name}')), name


@pytest.mark.parametrize('factor', [8, 16, 32])
def test_which_tokens_all_frames_look_at(factor: int) -> None:
    assert torch.equal(cross_frame_mask(pairs(), factor), expected(f'cross_frame_mask.{factor}'))


@pytest.mark.parametrize('factor', SIZES)
def test_tokens_are_followed_from_frame_to_frame(factor: int) -> None:
    single, unlinked = matched(pairs(), 0, factor)
    np.testing.assert_array_equal(single, expected(f'mapping.{factor}.single').numpy())
    np.testing.assert_array_equal(unlinked, expected(f'mapping.{factor}.single_unlinked').numpy())
    paths = Trajectories.of(pairs(), factor)
    assert torch.equal(paths.forward, expected(f'mapping.{factor}.forward')[:, 0])
    assert torch.equal(paths.backward, expected(f'mapping.{factor}.backward')[:, 0])
    assert torch.equal(paths.together, expected(f'mapping.{factor}.mask')[:, 0])


@pytest.mark.parametrize('factor', SIZES)
def test_cosines_between_tokens(factor: int) -> None:
    close(feature.gram(given(f'feature.reference_{factor}')), f'gram.{factor}', atol=1e-5)


def losses(factor: int, kind: str) -> tuple[Any, Any]:
    motion = None if kind == 'spatial' else pairs().at(factor)
    reference = None if kind == 'temporal' else given(f'feature.reference_{factor}')
    return motion, reference


@pytest.mark.parametrize('factor', SIZES)
@pytest.mark.parametrize('kind', ['temporal', 'spatial', 'both'])
def test_features_are_optimised_as_published(factor: int, kind: str) -> None:
    sample = given(f'feature.sample_{factor}')
    motion, reference = losses(factor, kind)
    leaf = sample.clone().requires_grad_(True)
    feature._descend(leaf, motion, reference)
    gradient = leaf.grad.unflatten(0, (2, 3))
    close(gradient, f'optimise.{factor}.{kind}.grad', atol=1e-6, rtol=0)
    out, how = feature.optimised(sample, motion, reference)
    wanted = expected(f'optimise.{factor}.{kind}.loss').numpy()
    np.testing.assert_allclose(how.losses[0], wanted[0], rtol=1e-5)
    np.testing.assert_allclose(how.losses, wanted, rtol=1e-4 if kind == 'temporal' else 1e-2)
    if kind == 'both':
        mean, largest = differences(out, f'optimise.{factor}.both.out')
        assert mean <= 0.02
        assert largest <= 0.5
        two, _ = feature.optimised(sample, motion, reference, iterations=2)
        mean, largest = differences(two, f'optimise.{factor}.both.out_2_iterations')
        assert mean <= 5e-5
        assert largest <= 0.02


def differences(found: Any, name: str) -> tuple[float, float]:
    apart = (found - expected(name)).abs()
    return float(apart.mean()), float(apart.max())


def test_statistics_are_transferred() -> None:
    content, style = given('adain.content'), given('adain.style')
    close(feature.transferred(content, style), 'adain.out')
    close(feature.transferred(content, style, 1e-5), 'adain.out_intended')


@pytest.mark.parametrize('factor', SIZES)
def test_the_background_is_smoothed(factor: int) -> None:
    sample, background = given(f'feature.sample_{factor}'), given('saliency')
    close(feature.smoothed(sample, pairs(), background), f'smooth.{factor}')


def test_the_background_of_whole_frames_is_smoothed() -> None:
    frames = given('frames').float() / 127.5 - 1
    close(feature.smoothed(frames, pairs(), given('saliency')), 'smooth.1')


@cache
def layer(kind: str) -> Any:
    from diffusers.models.attention_processor import Attention

    sizes = ABOUT['config']['attention']
    width = sizes['query_dim']
    found = Attention(width, heads=sizes['heads'], dim_head=sizes['head_dim'])
    weights = tensors('weights').items()
    found.load_state_dict({k.split('.', 1)[1]: v for k, v in weights if k.startswith(kind)})
    return found.eval().requires_grad_(False)


def attended(guidance: Guidance, text: Any = None) -> Any:
    attention = layer('self' if text is None else 'cross')
    attention.set_processor(GuidedAttention('layer', guidance))
    return attention(given('attn.hidden'), encoder_hidden_states=text)


def test_attention_is_guided() -> None:
    keys = {96: cross_frame_mask(pairs(), 8)}
    paths = {96: Trajectories.of(pairs(), 8)}
    stored = {'layer': given('attn.stored')}
    close(attended(Guidance()), 'attn.plain')
    close(attended(Guidance(keys=keys)), 'attn.cross_frame')
    close(attended(Guidance(spatial=True, stored=stored)), 'attn.spatial')
    close(attended(Guidance(trajectories=paths)), 'attn.temporal')
    everything = Guidance(spatial=True, stored=stored, keys=keys, trajectories=paths)
    close(attended(everything), 'attn.all')
    close(attended(everything, given('attn.text')), 'attn.all_text')


def test_recording_keeps_the_input_and_guides_nothing() -> None:
    guidance = Guidance(record=True, spatial=True, keys={96: cross_frame_mask(pairs(), 8)})
    close(attended(guidance), 'attn.plain')
    assert torch.equal(guidance.stored['layer'], given('attn.hidden'))


def test_key_frames_are_chosen() -> None:
    error = expected('keyframes.error').numpy()
    for name in (n for n in tensors('io') if n.startswith('expect.keyframes.') and n[-1].isdigit()):
        fewest, most = map(int, name.rsplit('.', 1)[1].split('_'))
        assert key_frames(error, fewest, most) == tuple(tensors('io')[name].tolist()), name


def test_changes_between_frames_are_measured() -> None:
    frames = list(given('video.frames').numpy())
    found = changes(frames, ABOUT['config']['key_frame_size'])
    np.testing.assert_allclose(found, expected('keyframes.error').numpy(), rtol=2e-2)
