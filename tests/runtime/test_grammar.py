"""Whatever the automaton lets through parses cleanly, and every valid answer gets through."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unifiedmllm_ros.model.processing import ProcessorConfig, UnifiedMLLMProcessor
from unifiedmllm_ros.model.tokenizer import CHAT_TOKENS, build_tokenizer
from unifiedmllm_ros.representation import (
    TASKS,
    Argument,
    Box,
    Region,
    Response,
    TaskCall,
    TaskSpec,
    format,
    parse,
)
from unifiedmllm_ros.runtime.grammar import Grammar, GrammarState

PROCESSOR = UnifiedMLLMProcessor(
    build_tokenizer(['find the red mug, 3 bowls & a plate é ☕'], vocab_size=300)
)
# Two further tasks show that region limits are read from the registry.
PAIR = TaskSpec('edit', Argument.REQUIRED, (2, 2), 'pair')
TASKS_WITH_PAIR = {**TASKS, 'edit': PAIR}
GRAMMAR = Grammar(PROCESSOR, TASKS_WITH_PAIR)
EOS = PROCESSOR.eos_id


def walk(seed: int, markers: float, limit: int) -> list[int]:
    """A random answer: with probability `markers` a marker where one is allowed."""
    rng = np.random.default_rng(seed)
    state, ids = GRAMMAR.start(), []
    special = np.asarray([token >= PROCESSOR.number_ids[-1] for token in range(GRAMMAR.vocab_size)])
    while not state.finished:
        allowed = state.allowed(closing=len(ids) >= limit)
        marked = allowed & special
        choice = marked if marked.any() and rng.random() < markers else allowed
        ids.append(int(rng.choice(np.flatnonzero(choice))))
        state = state.advance(ids[-1])
    return ids


@settings(max_examples=300)
@given(st.integers(0, 2**32), st.sampled_from([0.05, 0.4, 0.9]), st.integers(0, 60))
def test_every_walk_parses_without_a_problem(seed: int, markers: float, limit: int) -> None:
    ids = walk(seed, markers, limit)
    text = PROCESSOR.decode(ids)
    response, problems = parse(text, TASKS_WITH_PAIR)
    assert problems == ()
    assert PROCESSOR.decode_bytes(ids).decode('utf-8', 'strict')
    assert format(response, TASKS_WITH_PAIR) == text
    assert len(ids) <= limit + 48


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.sampled_from([0.05, 0.4, 0.9]), st.booleans())
def test_a_single_token_is_permitted_where_its_mask_allows_it(
    seed: int, markers: float, closing: bool
) -> None:
    state, numbers = GRAMMAR.start(), range(GRAMMAR.first_number, GRAMMAR.last_number + 1)
    for token in walk(seed, markers, 30):
        mask = state.allowed(closing)
        tokens = {-1, 0, token, GRAMMAR.vocab_size, *numbers[:: len(numbers) // 40]}
        if state.at_coordinate:
            possible = state.coordinates
            assert list(np.flatnonzero(mask)) == list(possible)
            tokens |= {possible.start - 1, possible.stop - 1, possible.stop}
        for other in tokens:
            inside = 0 <= other < GRAMMAR.vocab_size
            assert state.permits(other, closing) == (inside and bool(mask[other]))
        state = state.advance(token)


def test_walks_reach_every_marker() -> None:
    seen = {token for seed in range(400) for token in walk(seed, 0.6, 60)}
    assert set(GRAMMAR.openers) | set(GRAMMAR.closers.values()) < seen


TEXT = st.text(st.characters(exclude_categories=['Cs']), max_size=12)
PHRASE = TEXT.filter(bool)
VISIBLE = TEXT.filter(lambda text: bool(text.strip()))


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x1, y1 = draw(st.integers(0, 999)), draw(st.integers(0, 999))
    x2, y2 = draw(st.integers(x1 + 1, 1000)), draw(st.integers(y1 + 1, 1000))
    return Box(x1 / 1000, y1 / 1000, x2 / 1000, y2 / 1000)


REGIONS = st.builds(Region, PHRASE, st.lists(boxes(), min_size=1, max_size=3).map(tuple))


@st.composite
def calls(draw: st.DrawFn) -> TaskCall:
    spec = draw(st.sampled_from(list(TASKS_WITH_PAIR.values())))
    argument = draw(TEXT if spec.argument is Argument.OPTIONAL else VISIBLE)
    fewest, most = spec.regions
    size = st.lists(REGIONS, min_size=fewest, max_size=fewest + 2 if most is None else most)
    return TaskCall(spec.name, argument, tuple(draw(size)))


RESPONSES = st.lists(st.one_of(TEXT, REGIONS, calls()), max_size=4).map(
    lambda parts: Response(tuple(parts))
)


@settings(max_examples=300)
@given(RESPONSES)
def test_every_valid_answer_is_accepted(response: Response) -> None:
    state = GRAMMAR.start()
    for token in [*PROCESSOR.encode_answer(format(response, TASKS_WITH_PAIR)), EOS]:
        state = state.advance(token)
    assert state.finished


def after(text: str) -> GrammarState:
    state = GRAMMAR.start()
    for token in PROCESSOR.encode_answer(text):
        state = state.advance(token)
    return state


def names(state: GrammarState) -> set[str]:
    """Markers and chat tokens that may follow."""
    ids = np.flatnonzero(state.allowed())
    spelled = {PROCESSOR.token_bytes[token].decode('utf-8', 'replace') for token in ids}
    return {text for text in spelled if text.startswith('<') and text.endswith('>')}


OPENERS = {f'<{name}>' for name in TASKS}
BOX = '<box>[0.100, 0.200, 0.300, 0.400]</box>'


@pytest.mark.parametrize(
    ('text', 'following'),
    [
        ('', {'<eos>', '<p>', *OPENERS}),
        ('a mug', {'<eos>', '<p>', *OPENERS}),
        ('<p>', set()),
        ('<p>mug', {'</p>'}),
        ('<p>mug</p>', {'<box>'}),
        (f'<p>mug</p>{BOX}', {'<eos>', '<p>', '<box>', *OPENERS}),
        ('<seg>', {'<p>'}),
        (f'<seg><p>mug</p>{BOX}', {'<p>', '<box>', '</seg>'}),
        (f'<seg><p>mug</p>{BOX}</seg>', {'<eos>', '<p>', *OPENERS}),
        ('<gen>', set()),
        ('<gen>  ', set()),
        ('<gen>a cat', {'</gen>'}),
        ('<regedit>', set()),
        ('<regedit>remove', {'<p>'}),
        ('<edit>swap', {'<p>'}),
        (f'<edit>swap<p>a</p>{BOX}', {'<p>', '<box>'}),
        (f'<edit>swap<p>a</p>{BOX}<p>b</p>{BOX}', {'<box>', '</edit>'}),
    ],
)
def test_markers_that_may_follow(text: str, following: set[str]) -> None:
    assert names(after(text)) == following


def test_coordinates_keep_boxes_upright() -> None:
    numbers = PROCESSOR.number_ids
    state = after('<p>mug</p><box>[0.999, 0.500')
    assert state.forced == PROCESSOR.encode_answer('[0.1, 0.100')[-2]
    x2 = np.flatnonzero(state.advance(state.forced).allowed())
    assert x2.tolist() == [numbers[1000]]
    first = np.flatnonzero(after('<p>mug</p><box>[').allowed())
    assert first.tolist() == numbers[:1000].tolist()


def test_characters_are_never_cut() -> None:
    cup = PROCESSOR.encode_answer('☕')
    state = GRAMMAR.start()
    for token in cup[:-1]:
        state = state.advance(token)
        spelled = [PROCESSOR.token_bytes[token] for token in np.flatnonzero(state.allowed())]
        assert all(piece[0] >= 0x80 for piece in spelled)


def test_chat_tokens_are_never_allowed_but_the_end() -> None:
    chat = {PROCESSOR.token_id(token) for token in CHAT_TOKENS} - {EOS}
    for text in ('', 'mug', '<p>', '<p>mug', '<seg>', f'<p>mug</p>{BOX}'):
        assert not after(text).allowed()[list(chat)].any()


def test_what_is_not_allowed_is_refused() -> None:
    state = GRAMMAR.start()
    for token in (PROCESSOR.bos_id, PROCESSOR.token_id('</p>'), -1, GRAMMAR.vocab_size):
        with pytest.raises(ValueError, match='not allowed'):
            state.advance(token)


def test_tasks_that_the_tokenizer_lacks_are_not_offered() -> None:
    spec = TaskSpec('weigh', Argument.OPTIONAL, (1, 1), 'scales')
    grammar = Grammar(PROCESSOR, {'seg': TASKS['seg'], 'weigh': spec})
    assert [task.name for task in grammar.openers.values()] == ['seg']


def test_a_model_that_lists_from_left_to_right_names_no_instance_twice() -> None:
    config = ProcessorConfig(instance_gap=0.25)
    grammar = Grammar(UnifiedMLLMProcessor(PROCESSOR.tokenizer, config), TASKS)
    first = int(PROCESSOR.number_ids[0])

    def leftmost(text: str) -> int:
        state = grammar.start()
        for token in PROCESSOR.encode_answer(text):
            state = state.advance(token)
        opened = state.advance(grammar.box_open) if state.allowed()[grammar.box_open] else state
        opened = opened.advance(grammar.box[0])
        return int(np.flatnonzero(opened.allowed())[0]) - first

    box = '<box>[0.200, 0.100, 0.400, 0.300]</box>'
    assert leftmost(f'<p>mug</p>{box}') == 250
    assert leftmost(f'<p>mug</p>{box}<p>mug</p>') == 0
    far = '<box>[0.999, 0.100, 1.000, 0.300]</box>'
    assert leftmost(f'<p>mug</p>{far}') == 999
