"""Our SEEM gives the numbers of the original: backbone, pixel decoder, decoder, text, merge."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='SEEM needs the extra [train]')

from safetensors.torch import load_file  # noqa: E402

from unifiedmllm_ros.experts.seem.configuration import BackboneConfig, SeemConfig  # noqa: E402
from unifiedmllm_ros.experts.seem.modeling import (  # noqa: E402
    Features,
    Found,
    SeemModel,
    normalised_pixels,
)
from unifiedmllm_ros.experts.seem.panoptic import Segment, panoptic, semantic  # noqa: E402
from unifiedmllm_ros.experts.seem.weights import load_state  # noqa: E402

DATA = Path(__file__).resolve().parents[2] / 'data'
ABOUT = json.loads((DATA / 'seem_focalt_tiny.json').read_text(encoding='utf-8'))
THINGS = ABOUT['config']['thing_classes']
TINY = SeemConfig(
    BackboneConfig(16, (1, 2, 1, 1), levels=3, stem_padding=3, depthwise=True),
    dim=64,
    heads=4,
    feedforward=96,
    encoder_layers=2,
    decoder_layers=4,
    queries=9,
    text_width=32,
    text_heads=4,
    text_layers=2,
    vocabulary=514,
)


@cache
def tensors() -> dict[str, Any]:
    return load_file(DATA / 'seem_focalt_tiny.io.safetensors')


def given(name: str) -> Any:
    return tensors()[f'input.{name}']


def expected(name: str) -> Any:
    return tensors()[f'expect.{name}']


@cache
def model() -> SeemModel:
    found = SeemModel(TINY).eval()
    load_state(found, DATA / 'seem_focalt_tiny.weights.safetensors')
    return found


@cache
def features(case: str) -> Features:
    with torch.no_grad():
        return model().features(given(f'{case}.image'))


@cache
def classes() -> Any:
    encoder = model().decoder.lang_encoder
    with torch.no_grad():
        named = encoder.class_embeddings(given('classes.ids'))
        background = encoder.class_embeddings(given('background.ids')[None])
    return torch.cat((named, background))


def close(found: Any, name: str) -> None:
    wanted = expected(name)
    assert found.shape == wanted.shape, name
    np.testing.assert_allclose(found, wanted, atol=5e-4, rtol=1e-4, err_msg=name)


def table(segments: tuple[Segment, ...]) -> Any:
    return np.array([(s.id, s.thing, s.label) for s in segments], np.int64).reshape(-1, 3)


@pytest.mark.parametrize('case', ['a', 'b'])
def test_backbone(case: str) -> None:
    close(normalised_pixels(given(f'{case}.image')), f'{case}.pixel_values')
    for stage, found in enumerate(features(case).maps, start=2):
        close(found, f'{case}.res{stage}')


@pytest.mark.parametrize('case', ['a', 'b'])
def test_pixel_decoder(case: str) -> None:
    found = features(case)
    close(found.encoded, f'{case}.transformer_encoder_features')
    for level, scale in enumerate(found.scales):
        close(scale, f'{case}.multi_scale.{level}')
    close(found.mask_features, f'{case}.mask_features')


def test_class_embeddings() -> None:
    close(classes(), 'classes.embeddings')


def check_found(found: Found, name: str) -> None:
    queries = found.queries
    close(queries.masks, f'{name}.pred_masks')
    if f'expect.{name}.pred_captions' in tensors():
        close(queries.class_embeddings, f'{name}.pred_captions')
    else:
        close(queries.mask_embeddings, f'{name}.pred_maskembs')
    if f'expect.{name}.pred_logits' in tensors():
        logits = model().decoder.lang_encoder.class_logits(queries.class_embeddings, classes())
        close(logits, f'{name}.pred_logits')
    close(found.scores, f'{name}.scores')
    assert found.query == int(expected(f'{name}.query')[0])
    close(found.mask[None], f'{name}.mask_logits')


@torch.no_grad()
@pytest.mark.parametrize('case', ['a', 'b'])
@pytest.mark.parametrize('prompt', ['stroke', 'box'])
def test_region_prompts(case: str, prompt: str) -> None:
    name = f'{case}.{prompt}'
    region = model().region(features(case), given(name).bool())
    close(region.key, f'{name}.pred_pspatials')
    check_found(model().find_region(features(case), region), name)


@torch.no_grad()
@pytest.mark.parametrize('name', ['a.text_short', 'a.text_long', 'b.text_short'])
def test_text_prompts(name: str) -> None:
    ids, attended = given(f'{name}.ids'), given(f'{name}.attention_mask')
    every, end = model().decoder.lang_encoder.tokens(ids)
    close(every[attended.bool()][:, None], f'{name}.token_embeddings')
    close(end, f'{name}.class_embedding')
    check_found(model().find_text(features(name[0]), ids, attended), name)


@torch.no_grad()
def test_an_example_in_another_image() -> None:
    region = model().region(features('a'), given('a.box').bool())
    close(region.key, 'b.example.key')
    for level, tokens in enumerate(region.tokens):
        close(tokens, f'b.example.tokens.{level}')
    check_found(model().find_region(features('b'), region), 'b.example')


@torch.no_grad()
@pytest.mark.parametrize('case', ['a', 'b'])
def test_panoptic(case: str) -> None:
    queries = model().decoder(features(case).scales, features(case).mask_features)
    close(queries.masks, f'{case}.panoptic.pred_masks')
    close(queries.mask_embeddings, f'{case}.panoptic.pred_maskembs')
    logits, masks = model().find_all(features(case), classes())
    close(logits[None], f'{case}.panoptic.pred_logits')
    close(semantic(logits, masks), f'{case}.panoptic.sem_seg')
    numbers, segments = panoptic(logits, masks, THINGS)
    assert (numbers != expected(f'{case}.panoptic.segments')).sum() <= 6
    np.testing.assert_array_equal(table(segments), expected(f'{case}.panoptic.segments_info'))


def test_the_panoptic_merge_in_all_its_branches() -> None:
    logits, masks = given('merge.mask_cls'), given('merge.mask_pred')
    numbers, segments = panoptic(logits, masks, THINGS)
    np.testing.assert_array_equal(numbers, expected('merge.segments'))
    np.testing.assert_array_equal(table(segments), expected('merge.segments_info'))
    close(semantic(logits, masks), 'merge.sem_seg')
