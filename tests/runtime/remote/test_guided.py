"""The grammar takes what `format` writes and nothing that `parse` finds fault with."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.remote.server import Server
from tests.runtime.remote.test_remote_model import answer, remote
from unifiedmllm_ros.representation import (
    TASKS,
    Box,
    Region,
    Response,
    TaskCall,
    format,
)
from unifiedmllm_ros.runtime.remote.guided import grammar

TOKEN = re.compile(r'"([^"]*)"|(\[[^\]]*\])|([a-z-]+)|([()|*+?])|\s+')


def as_pattern(text: str) -> re.Pattern[str]:
    """No rule refers to itself, so the grammar is a regular expression."""
    rules = dict(line.split(' ::= ', 1) for line in text.splitlines())

    def written(rule: str) -> str:
        out, position = '', 0
        while position < len(rule):
            match = TOKEN.match(rule, position)
            assert match is not None, rule[position:]
            literal, characters, name, mark = match.groups()
            out += f'(?:{re.escape(literal)})' if literal is not None else ''
            out += characters or mark or ''
            out += f'(?:{written(rules[name])})' if name else ''
            position = match.end()
        return out

    return re.compile(written(rules['root']))


PATTERN = as_pattern(grammar())
COORDINATES = st.tuples(st.integers(0, 999), st.integers(1, 1000)).filter(lambda p: p[0] < p[1])
BOXES = st.builds(
    lambda x, y: Box(x[0] / 1000, y[0] / 1000, x[1] / 1000, y[1] / 1000), COORDINATES, COORDINATES
)
WORDS = st.text(max_size=8)
REGIONS = st.builds(Region, WORDS, st.lists(BOXES, min_size=1, max_size=3).map(tuple))


def call(name: str) -> st.SearchStrategy[TaskCall]:
    some = TASKS[name].regions[1] is None
    regions = st.lists(REGIONS, min_size=1, max_size=3) if some else st.just([])
    return st.builds(TaskCall, st.just(name), st.text(min_size=1, max_size=8), regions)


PARTS = st.one_of(WORDS, REGIONS, st.sampled_from(list(TASKS)).flatmap(call))


@settings(max_examples=100, deadline=None)
@given(st.lists(PARTS, max_size=4))
def test_every_valid_answer_is_taken(parts):
    assert PATTERN.fullmatch(format(Response(tuple(parts))))


@pytest.mark.parametrize(
    'text',
    [
        '<p>mug</p>',
        '<p>mug</p><box>[0.1, 0.200, 0.300, 0.400]</box>',
        '<p>mug</p><box>[1.001, 0.200, 0.300, 0.400]</box>',
        '<seg></seg>',
        '<gen></gen>',
        '<gen>a cat',
        '<dance>x</dance>',
        'a < b',
    ],
)
def test_what_breaks_the_representation_is_not(text):
    assert PATTERN.fullmatch(text) is None


@pytest.mark.parametrize(
    ('guided', 'where'),
    [('llama.cpp', lambda b: b['grammar']), ('vllm', lambda b: b['structured_outputs']['grammar'])],
)
def test_a_request_carries_it(guided, where):
    with Server() as server:
        answer(remote(server, guided=guided))
        assert where(server.requests[0][2]) == grammar()


def test_only_for_the_unified_representation():
    with pytest.raises(ValueError, match='native'):
        remote('http://127.0.0.1:1/v1', guided='vllm', representation='qwen3-vl')
