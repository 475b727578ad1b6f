"""A local model that is held to the grammar: masks over its own tokenizer, and whole answers."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from tests.runtime.local.checkpoints import QWEN_TOKENS, byte_level
from unifiedmllm_ros.cancellation import never
from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.perception import Perceiver
from unifiedmllm_ros.runtime.local.automaton import ByteState
from unifiedmllm_ros.runtime.local.constraint import Constraint
from unifiedmllm_ros.runtime.local.generation import CLOSING_ROOM, Watch, Written
from unifiedmllm_ros.runtime.local.model import _pieces
from unifiedmllm_ros.runtime.local.vocabulary import token_bytes

IMAGE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)


@pytest.fixture(scope='module')
def constraint():
    tokenizer = byte_level(QWEN_TOKENS)
    return Constraint(token_bytes(tokenizer, len(tokenizer) + 3), [2]), tokenizer


STATES = (
    '',
    'text é',
    '<',
    '<p>',
    '<p>mug',
    '<p>mug</p',
    '<p>mug</p>',
    '<p>mug</p><box>[0.5',
    '<p>mug</p><box>[0.500, 0.200, 0.',
    '<p>mug</p><box>[0.500, 0.200, 0.600, 0.300]</box>',
    '<seg>',
    '<seg><p>mug</p><box>[0.500, 0.200, 0.600, 0.300]</box>',
    '<gen>a cat',
    '<edit>&a',
)


@pytest.mark.parametrize('text', STATES)
def test_masks_are_what_the_automaton_says_of_each_token(constraint, text):
    made, _ = constraint
    state = made.automaton.run(ByteState(), text.encode())
    assert state is not None
    mask = made.allowed(state)
    expected = [
        bool(spelled) and made.automaton.run(state, spelled) is not None for spelled in made.spelled
    ]
    expected[2] = state.final
    assert mask.tolist() == expected
    # Closing is a part of that.
    closing = made.allowed(state, closing=True)
    assert closing.any()
    assert not (closing & ~mask).any()


def test_control_tokens_are_never_chosen(constraint):
    made, tokenizer = constraint
    ids = [i for i in tokenizer.convert_tokens_to_ids(list(QWEN_TOKENS)) if i != 2]
    for text in STATES:
        state = made.automaton.run(ByteState(), text.encode())
        assert not made.allowed(state)[ids].any()


def test_bytes_of_tokens_make_the_text():
    tokenizer = byte_level(QWEN_TOKENS)
    spelled = token_bytes(tokenizer, len(tokenizer))
    for text in ('find the red mug', '<p>é</p>', '漢字 🙂'):
        ids = tokenizer(text)['input_ids']
        assert b''.join(spelled[one] for one in ids).decode() == text


@pytest.mark.parametrize('family', ['qwen2.5-vl', 'qwen3-vl'])
@pytest.mark.parametrize('tokens', [1, 7, 40, 90])
def test_answers_parse_whatever_the_weights_and_however_short(local, family, tokens):
    model = local(family, constrained=True)
    model.max_tokens = tokens
    chance = torch.Generator().manual_seed(tokens)
    model._network.module.lm_head.weight.data.normal_(generator=chance)
    perceiver = Perceiver(model)
    perceiver.set_image(IMAGE)
    answer = perceiver.ask('find the mug')
    assert answer.problems == ()
    assert len(answer.text) <= (tokens + CLOSING_ROOM) * 20
    assert answer.model.backend.endswith('native')


def test_boxes_get_the_mean_probability_of_their_numbers(constraint):
    """Scores as of a model that is sure of its text, and of each digit by e to 1."""
    made, tokenizer = constraint
    watch = Watch(threading.Event(), never, made, limit=200)
    ids = tokenizer('<p>mug</p><box>[0.500, 0.200, 0.600, 0.300]</box>.')['input_ids'] + [2]
    for wanted in ids:
        scores = torch.zeros(1, len(made.spelled))
        scores[0, wanted] = 1.0
        held = watch(torch.zeros(1, 1, dtype=torch.long), scores)
        assert int(held.argmax()) == wanted
    (place,) = watch.confidences
    written = ''.join(tokenizer.convert_ids_to_tokens(ids[: place + 1]))
    assert written.endswith('>')
    assert 0.25 < watch.confidences[place] < 0.99


def test_a_confidence_goes_with_the_piece_that_closes_its_box(local):
    family = local('qwen3-vl')._family
    text = 'A mug. <p>mug</p><box>[0.500, 0.200, 0.600, 0.300]</box> and so on'
    ids = family.tokenizer(text)['input_ids']
    ends = [i for i in range(len(ids)) if '</box>' in family.text(ids[: i + 1])]
    written = [Written(one, 0.5 if i == ends[0] else None) for i, one in enumerate(ids)]
    pieces = list(_pieces(iter(written), family))
    assert ''.join(piece.text for piece in pieces) == text
    (sure,) = [piece for piece in pieces if piece.confidence is not None]
    assert sure.confidence == 0.5
    assert sure.text.endswith('</box>')
    assert sure.text.count('</box>') == 1


def test_only_for_models_that_read_instructions(local):
    with pytest.raises(ConfigError, match='language of its own'):
        local('florence2', constrained=True)
