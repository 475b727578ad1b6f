"""The automaton takes what `format` writes and nothing that `parse` finds fault with."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.remote.test_guided import BOXES, call
from unifiedmllm_ros.representation import TASKS, Region, Response, format, parse
from unifiedmllm_ros.runtime.local.automaton import ByteAutomaton, ByteState

AUTOMATON = ByteAutomaton()
# What is visible and has no control characters; blanks alone are no phrase and no argument.
WORDS = st.text(
    st.characters(codec='utf-8', exclude_categories=('Cc', 'Cs')), min_size=1, max_size=8
).map(lambda text: 'a' + text)
REGIONS = st.builds(Region, WORDS, st.lists(BOXES, min_size=1, max_size=3).map(tuple))


def named(name: str) -> st.SearchStrategy:
    return call(name).flatmap(
        lambda made: st.builds(
            type(made),
            st.just(name),
            WORDS,
            st.lists(REGIONS, min_size=max(1, TASKS[name].regions[0]), max_size=3).map(tuple)
            if TASKS[name].regions[1] is None
            else st.just(()),
        )
    )


PARTS = st.one_of(WORDS, REGIONS, st.sampled_from(list(TASKS)).flatmap(named))


def after(text: str, state: ByteState | None = None) -> ByteState | None:
    return AUTOMATON.run(state or ByteState(), text.encode())


@settings(max_examples=60, deadline=None)
@given(st.lists(PARTS, max_size=4))
def test_every_valid_answer_is_taken(parts):
    state = after(format(Response(tuple(parts))))
    assert state is not None
    assert state.final


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_it_lets_through_parses_without_a_problem(data):
    """A walk by chance, brought to its end by the closing bytes at any moment."""
    state, written = ByteState(), b''
    # Mostly bytes of markers and numbers, so that walks get somewhere.
    favoured = list(b'<p>boxseg/edit[0123456789., ]&lt;a\xc3\xa9 ')
    for _ in range(data.draw(st.integers(0, 60))):
        allowed = [b for b in favoured if AUTOMATON.advance(state, b) is not None]
        if not allowed:
            allowed = [b for b in range(256) if AUTOMATON.advance(state, b) is not None]
        byte = data.draw(st.sampled_from(allowed))
        state = AUTOMATON.advance(state, byte)
        written += bytes([byte])
    steps = 0
    while not state.final:
        byte = min(AUTOMATON.closing(state))
        state = AUTOMATON.advance(state, byte)
        assert state is not None
        written += bytes([byte])
        steps += 1
    assert steps <= 90
    text = written.decode()
    response, problems = parse(text)
    assert problems == ()
    assert parse(format(response))[0] == response


@pytest.mark.parametrize(
    'text',
    [
        '<p></p>',
        '<p>mug</p> ',
        '<p>mug</p><box>[0.1, ',
        '<p>mug</p><box>[1.000',
        '<p>mug</p><box>[0.500, 0.200, 0.500',
        '<p>mug</p><box>[0.500, 0.200, 0.600, 0.1',
        '<p>mug</p><box>[0.500, 0.999, 0.600, 0.',
        '<seg></seg>',
        '<gen></gen>',
        '<gen> </gen>',
        '<gen>a cat<p>',
        '<dance>',
        'a > b',
        'a & b',
        'a < b',
        '</p>',
        '<seg><p>a</p><box>[0.000, 0.000, 0.001, 0.001]</box> ',
    ],
)
def test_what_breaks_the_representation_is_not(text):
    assert after(text) is None


def test_text_goes_on_after_a_box():
    state = after('<p>a</p><box>[0.000, 0.000, 0.001, 0.001]</box>, and &lt;so on')
    assert state is not None
    assert state.final
