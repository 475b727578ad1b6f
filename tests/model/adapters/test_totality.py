"""No text that a model can write makes an adapter raise or give something unwritable."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.model.adapters.base import Size
from unifiedmllm_ros.model.adapters.registry import ADAPTERS, adapter
from unifiedmllm_ros.model.protocol import Conversation, Turn
from unifiedmllm_ros.representation import format, parse

PIECES = (
    *'[]{},:"\'\\;&\n',
    *('```', 'json', 'true', 'null', '-1', '2.5', '1e999', '"bbox_2d"', '"label"', '"task"'),
    *('"seg"', '"regions"', '[1,2,300,400]', '{"bbox_2d":[1,2,300,400],"label":"mug"}'),
    *('<loc_1>', '<loc_999>', '<loc_', '<loc0001>', '<loc1023>', '<seg001>', '<poly>', '</poly>'),
    *('<sep>', '<phrase>', '</phrase>', '<object>', '</object>', '<patch_index_0001>'),
    *('<patch_index_1023>', '</delimiter_of_multi_objects/>', '<grounding>', '</s>', '<p>'),
    *('</p>', '<box>', '</box>', '<gen>', '</gen>', '</think>', '<|im_end|>', 'mug', '\ud800'),
)
UNITS = (
    *('[', '{', '["', '{"a":', '[[1,2', '{"\\', '\\"['),
    *('<', '<phrase>', '<loc_1>', '<loc0001>'),
)
TRANSCRIPTS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=6)), max_size=40)
QUESTIONS = st.sampled_from(['', 'find it', 'segment the mug', 'what is this?', 'and, ; ?'])
SIZES = st.builds(Size, st.integers(1, 5000), st.integers(1, 5000))


@pytest.mark.parametrize('name', ADAPTERS)
@settings(max_examples=150, deadline=None)
@given(pieces=TRANSCRIPTS, question=QUESTIONS, image=SIZES)
def test_any_text_is_read(name, pieces, question, image):
    got = adapter(name).parse(''.join(pieces), image, question=question)
    written = format(got.response)
    again, problems = parse(written)
    assert format(again) == written
    assert problems == () or name == 'native'
    if name != 'native':
        written.encode('utf-8')


@pytest.mark.parametrize('name', ADAPTERS)
@given(question=st.text(max_size=40), answer=st.text(max_size=40), image=SIZES)
@settings(max_examples=50, deadline=None)
def test_any_conversation_makes_messages_with_one_image(name, question, answer, image):
    messages = adapter(name).messages(Conversation(question, (Turn(question, answer),)), image)
    assert sum(message.image for message in messages) == 1


@pytest.mark.parametrize('name', ADAPTERS)
@pytest.mark.parametrize('unit', UNITS)
def test_time_is_linear(name, unit):
    """100,000 characters of an opening that is never closed."""
    text = unit * (100_000 // len(unit))
    start = time.process_time()
    adapter(name).parse(text, Size(640, 480))
    assert time.process_time() - start < 3.0


def test_unknown_family():
    with pytest.raises(ConfigError, match='florence2'):
        adapter('llava')
