"""Every family end to end: a tiny checkpoint of its architecture, loaded, asked, read."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from unifiedmllm_ros.errors import Cancelled, ConfigError, ImageError, InstructionError, ModelError
from unifiedmllm_ros.model.adapters.base import FlawKind
from unifiedmllm_ros.model.protocol import Conversation, MultimodalModel, Turn
from unifiedmllm_ros.perception import Perceiver

IMAGE = np.random.default_rng(0).integers(0, 255, (72, 96, 3), np.uint8)
FAMILIES = ('qwen2.5-vl', 'qwen3-vl', 'florence2', 'paligemma', 'kosmos2')


@pytest.mark.parametrize('family', FAMILIES)
def test_answers_end_to_end(local, family):
    model = local(family)
    model.max_tokens = 12
    assert isinstance(model, MultimodalModel)
    perceiver = Perceiver(model)
    perceiver.set_image(IMAGE)
    first = perceiver.ask('find the red mug', history=(Turn('hello', 'Hello.'),))
    again = perceiver.ask('find the red mug', history=(Turn('hello', 'Hello.'),))
    assert first.problems == ()
    assert first.response.parts
    assert first.text == again.text
    assert first.model.backend.endswith(family)
    assert first.model.precision == 'float32'
    assert model.attention in first.model.backend


@pytest.mark.parametrize('family', FAMILIES)
def test_a_cancel_ends_it_within_a_step(local, family):
    model = local(family)
    seen = model.encode(IMAGE)
    asked = 0

    def cancel() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    with pytest.raises(Cancelled):
        list(model.stream(seen, Conversation('find the mug'), cancel))
    assert asked == 4
    model.max_tokens = 3
    assert list(model.stream(seen, Conversation('find the mug')))


def test_leaving_ends_the_generation(local):
    model = local('qwen3-vl', constrained=True)
    chunks = model.stream(model.encode(IMAGE), Conversation('find the mug'))
    next(chunks)
    chunks.close()
    assert not [t for t in threading.enumerate() if t.name == 'local-model']


@pytest.mark.parametrize('family', ['qwen3-vl', 'florence2'])
def test_the_picture_counts(local, family):
    """Not a test of sight: random weights tell pictures apart only if they arrive."""
    model = local(family)
    module = model._network.module
    outputs = []
    for image in (IMAGE, 255 - IMAGE):
        seen = model.encode(image)
        messages = model._family.adapter.messages(Conversation('find it'), seen.size)
        inputs = model._placed(model._family.inputs(messages, seen))
        with torch.inference_mode():
            if family == 'florence2':
                inputs['decoder_input_ids'] = torch.tensor([[2]])
            outputs.append(module(**inputs).logits[0, -1])
    assert not torch.allclose(outputs[0], outputs[1])


def test_numbers_that_are_none_are_refused(local):
    model = local('qwen3-vl')
    embeddings = model._network.module.get_output_embeddings()
    kept = embeddings.weight.data.clone()
    embeddings.weight.data.fill_(float('nan'))
    with pytest.raises(ModelError, match='not finite'):
        list(model.stream(model.encode(IMAGE), Conversation('find it')))
    embeddings.weight.data = kept


def test_a_cut_answer_says_so(local):
    model = local('qwen3-vl')
    model.max_tokens = 2
    list(model.stream(model.encode(IMAGE), Conversation('find it')))
    assert FlawKind.TRUNCATED in [flaw.kind for flaw in model.flaws]


def test_a_conversation_that_is_too_long(local):
    model = local('qwen3-vl')
    history = tuple(Turn('word ' * 300, 'Fine.') for _ in range(10))
    with pytest.raises(InstructionError, match='positions'):
        list(model.stream(model.encode(IMAGE), Conversation('find it', history)))


def test_pictures_that_are_none(local):
    model = local('qwen3-vl')
    with pytest.raises(ImageError, match='not uint8'):
        model.encode(IMAGE.astype(np.float32))
    with pytest.raises(ImageError, match='200 times'):
        model.encode(np.zeros((2, 900, 3), np.uint8))


def test_a_large_picture_is_shrunk(local):
    model = local('qwen3-vl', max_pixels=64 * 64)
    assert model.encode(np.zeros((480, 640, 3), np.uint8)).size.width <= 80


@pytest.mark.parametrize('family', ['qwen2.5-vl', 'qwen3-vl'])
def test_a_video_end_to_end(local, family):
    model = local(family, video_frames=4)
    model.max_tokens = 8
    frames = [np.roll(IMAGE, 4 * shift, axis=1) for shift in range(9)]
    seen = model.encode_video(frames, seconds=3.0)
    assert seen.tensors['video_grid_thw'][0, 0] == 2
    assert list(model.stream(seen, Conversation('what moves?')))
    single = model.encode_video(frames[:1], seconds=0.0)
    assert list(model.stream(single, Conversation('what moves?')))


def test_videos_that_are_none(local):
    model = local('qwen3-vl')
    with pytest.raises(ImageError, match='one size'):
        model.encode_video([IMAGE, IMAGE[:-1]], 1.0)
    with pytest.raises(ImageError, match='one frame'):
        model.encode_video([], 1.0)
    with pytest.raises(ConfigError, match='no video'):
        local('florence2').encode_video([IMAGE], 1.0)


@pytest.mark.parametrize('attention', ['eager', 'sdpa'])
def test_attention_is_chosen_and_reported(local, attention):
    model = local('qwen3-vl', attention=attention)
    assert model.attention == attention
    assert f'{attention} attention' in model.info.backend


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
@pytest.mark.parametrize('family', ['qwen3-vl', 'florence2'])
def test_precision_is_chosen_and_reported(local, family, dtype):
    model = local(family, dtype=dtype)
    model.max_tokens = 3
    assert model.info.precision == dtype
    assert list(model.stream(model.encode(IMAGE), Conversation('find it')))
