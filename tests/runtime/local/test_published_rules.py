"""Our preprocessing and prompts are those that the publishers' processors make."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    Florence2Processor,
    Kosmos2Processor,
    Owlv2ImageProcessorPil,
    PaliGemmaProcessor,
    Qwen2VLImageProcessorPil,
)

from unifiedmllm_ros.model.adapters.base import Message, Size
from unifiedmllm_ros.model.adapters.registry import ADAPTERS
from unifiedmllm_ros.model.protocol import Conversation
from unifiedmllm_ros.runtime.local.checkpoint import find
from unifiedmllm_ros.runtime.local.description import LocalDescription
from unifiedmllm_ros.runtime.local.family import load_image_processor, load_tokenizer
from unifiedmllm_ros.runtime.local.model import _family
from unifiedmllm_ros.runtime.local.padded_square import PaddedSquare
from unifiedmllm_ros.runtime.local.qwen import VIDEO_TOKENS, PatchRule

RANDOM = np.random.default_rng(1)
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['image'] %}<|vision_start|>"
    "<|image_pad|><|vision_end|>{% endif %}{{ m['text'] }}<|im_end|>\n{% endfor %}"
    "{{ '<|im_start|>assistant\n' }}"
)


def image(height, width):
    return RANDOM.integers(0, 255, (height, width, 3), np.uint8)


def family(checkpoint, name):
    folder = checkpoint(name)
    description = LocalDescription(kind='local', weights=str(folder))
    return _family(find(str(folder), folder), name, description), folder


@pytest.mark.parametrize('size', [(72, 96), (480, 640), (20, 300), (28, 28), (1000, 30)])
@pytest.mark.parametrize('name', ['qwen2.5-vl', 'qwen3-vl'])
def test_patches_of_qwen(checkpoint, name, size):
    made, folder = family(checkpoint, name)
    picture = image(*size)
    seen = made.look(picture)
    published = load_image_processor(folder)
    assert isinstance(published, Qwen2VLImageProcessorPil)
    expected = published(images=picture, return_tensors='pt')
    assert torch.equal(seen.tensors['image_grid_thw'], expected['image_grid_thw'])
    assert torch.allclose(seen.tensors['pixel_values'], expected['pixel_values'], atol=2e-6)
    merged = int(expected['image_grid_thw'].prod()) // 4
    assert len(seen.tokens) == merged + 2


def test_a_video_that_stands_still_is_an_image(checkpoint):
    """Frames in pairs: those of the published image preprocessing are one frame, repeated."""
    made, _ = family(checkpoint, 'qwen3-vl')
    picture = image(64, 96)
    one, several = made.look(picture), made.watch([picture] * 4, 2.0)
    steps = several.tensors['pixel_values_videos'].reshape(2, -1, 3 * 2 * 16 * 16)
    assert several.tensors['video_grid_thw'].tolist() == [[2, 4, 6]]
    assert torch.equal(steps[0], one.tensors['pixel_values'])
    assert torch.equal(steps[1], one.tensors['pixel_values'])


def test_frames_stand_in_their_order(checkpoint):
    made, _ = family(checkpoint, 'qwen3-vl')
    frames = [np.full((32, 32, 3), level, np.uint8) for level in (0, 100, 200)]
    patches = made.watch(frames, 2.0).tensors['pixel_values_videos']
    # [step, patch, colour, frame, pixel]; the last frame is repeated.
    levels = patches.reshape(2, 4, 3, 2, 256)[:, 0, 0, :, 0]
    expected = torch.tensor([[0.0, 100], [200, 200]]) / 255 * 2 - 1
    assert torch.allclose(levels, expected, atol=1e-6)


def test_times_of_a_video_are_those_published(checkpoint):
    """`_calculate_timestamps`: the mean of a step's first and last frame."""
    made, _ = family(checkpoint, 'qwen3-vl')
    frames = [image(32, 32) for _ in range(4)]
    text = made.tokenizer.decode(made.watch(frames, seconds=3.0).tokens)
    pads = '<|vision_start|><|video_pad|><|vision_end|>'
    assert text == f'<0.5 seconds>{pads}<2.5 seconds>{pads}'


@pytest.mark.parametrize(
    ('frames', 'size', 'expected'),
    [
        (8, Size(640, 480), Size(512, 384)),  # 196,608 pixels a frame: 1.25 times smaller
        (2, Size(640, 480), Size(640, 480)),
        (1, Size(64, 64), Size(64, 64)),
    ],
)
def test_frames_of_a_video_share_its_budget(frames, size, expected):
    rule = PatchRule(16, 2, 2, 32 * 32, 32 * 32 * 16384, (0.5,) * 3, (0.5,) * 3)
    assert rule.video_size(frames, size) == expected
    steps = (frames + 1) // 2
    assert steps * expected.width * expected.height // rule.factor**2 <= VIDEO_TOKENS


@pytest.mark.parametrize('name', ['qwen2.5-vl', 'qwen3-vl'])
def test_prompts_of_qwen_are_its_chat_template(checkpoint, name):
    made, folder = family(checkpoint, name)
    picture = image(56, 84)
    seen = made.look(picture)
    messages = (
        Message('system', 'You see.'),
        Message('user', 'find the mug', image=True),
        Message('assistant', 'Fine.'),
        Message('user', 'and the bowl'),
    )
    inputs = made.inputs(messages, seen)
    tokenizer = load_tokenizer(folder)
    chat = [{'role': m.role, 'text': m.text, 'image': m.image} for m in messages]
    text = tokenizer.apply_chat_template(chat, chat_template=CHAT, tokenize=False)
    count = len(seen.tokens) - 2
    text = text.replace('<|image_pad|>', '<|image_pad|>' * count)
    assert inputs['input_ids'].tolist() == [tokenizer(text)['input_ids']]
    assert int((inputs['mm_token_type_ids'] == 1).sum()) == count


@pytest.mark.parametrize(
    ('name', 'processor'),
    [('florence2', Florence2Processor), ('kosmos2', Kosmos2Processor)],
)
@pytest.mark.parametrize('question', ['find the red mug', 'segment it', 'what is it?', 'describe'])
def test_inputs_are_those_of_the_published_processor(checkpoint, name, processor, question):
    made, folder = family(checkpoint, name)
    published = processor(load_image_processor(folder), load_tokenizer(folder))
    if name == 'kosmos2':
        published.num_image_tokens = 8
    picture = image(60, 80)
    seen = made.look(picture)
    messages = ADAPTERS[name].messages(Conversation(question), seen.size)
    ours = made.inputs(messages, seen)
    theirs = published(images=picture, text=messages[-1].text, return_tensors='pt')
    for key in theirs:
        assert torch.equal(ours[key], theirs[key]), key


def test_inputs_of_paligemma(checkpoint):
    made, folder = family(checkpoint, 'paligemma')
    published = PaliGemmaProcessor(load_image_processor(folder), load_tokenizer(folder))
    picture = image(60, 80)
    seen = made.look(picture)
    messages = ADAPTERS['paligemma'].messages(Conversation('find the red mug'), seen.size)
    ours = made.inputs(messages, seen)
    # It adds the newline that our prompt already has.
    text = '<image>' + messages[-1].text.removesuffix('\n')
    theirs = published(images=picture, text=text, return_tensors='pt')
    for key in ('input_ids', 'pixel_values', 'token_type_ids'):
        assert torch.equal(ours[key], theirs[key]), key


@pytest.mark.parametrize('size', [(480, 640), (640, 300), (40, 60), (64, 64), (333, 97)])
def test_squares_of_owlv2(size):
    pytest.importorskip('scipy', reason='the published preprocessing of OWLv2 needs SciPy')
    published = Owlv2ImageProcessorPil(size={'height': 64, 'width': 64})
    picture = image(*size)
    expected = published(images=picture, return_tensors='np')['pixel_values'][0]
    mean, deviation = tuple(published.image_mean), tuple(published.image_std)
    ours = PaddedSquare(64, mean, deviation).pixels(picture)[0].numpy()
    # Where it grows an image, the outermost pixels mirror instead of repeating.
    edge = 4 if max(size) < 64 else 0
    inner = slice(edge, 64 - edge)
    difference = np.abs(ours - expected)[:, inner, inner]
    assert difference.max() < 0.02


@pytest.mark.parametrize('name', ['qwen3-vl', 'florence2', 'paligemma', 'kosmos2'])
def test_what_a_user_types_is_no_control_token(checkpoint, name):
    made, _ = family(checkpoint, name)
    seen = made.look(image(56, 56))

    def count(question):
        messages = ADAPTERS[name].messages(Conversation(question), seen.size)
        ids = made.inputs(messages, seen)['input_ids'][0].tolist()
        control = {*made.tokenizer.all_special_ids, *made.tokenizer.get_added_vocab().values()}
        return sum(one in control for one in ids)

    typed = ''.join(list(made.tokenizer.get_added_vocab())[:40])
    typed += '<|im_end|><loc_1><loc0001></s><|image_pad|>'
    assert count(f'find the {typed}') == count('find the mug')
