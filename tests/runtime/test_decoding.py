"""Jump-ahead and cache reuse change nothing but the time; limits and bad numbers are handled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from unifiedmllm_ros.errors import Cancelled, InstructionError, ModelError, UnifiedMLLMError
from unifiedmllm_ros.representation import parse
from unifiedmllm_ros.runtime.context import Context
from unifiedmllm_ros.runtime.decoding import Asked, DecodedToken, Decoder
from unifiedmllm_ros.runtime.engine import Array, Row
from unifiedmllm_ros.runtime.grammar import Grammar
from unifiedmllm_ros.runtime.onnx_engine import OnnxEngine

from .conftest import HIDDEN, VISUAL_TOKENS, TinyModel

QUESTIONS = ['find the red mug', 'what is on the table?', 'x', 'bowls & cups', 'the plate, please']


class PushedEngine:
    """The tiny engine with a preference for markers, so that random weights make boxes."""

    def __init__(self, engine: OnnxEngine, bias: Array) -> None:
        self._engine = engine
        self._bias = bias
        self.lengths: list[int] = []
        self.info = engine.info

    def new_cache(self) -> Any:
        return self._engine.new_cache()

    def encode_image(self, pixels: Array) -> Array:
        return self._engine.encode_image(pixels)

    def step_all(self, rows: Sequence[Row]) -> list[Array]:
        self.lengths.append(sum(len(row.ids) for row in rows))
        return [logits + self._bias for logits in self._engine.step_all(rows)]


@pytest.fixture(scope='module')
def grammar(tiny: TinyModel) -> Grammar:
    return Grammar(tiny.processor)


@pytest.fixture
def pushed(tiny: TinyModel, engine: OnnxEngine, grammar: Grammar) -> PushedEngine:
    bias = np.zeros(grammar.vocab_size, np.float32)
    bias[[*grammar.openers, *grammar.closers.values()]] = 14
    bias[[grammar.phrase_open, grammar.phrase_close, grammar.box_open]] = 16
    bias[grammar.eos_id] = 10
    return PushedEngine(engine, bias)


def prefix(engine: Any, tiny: TinyModel, seed: int = 0) -> Context:
    features = np.random.default_rng(seed).normal(size=(VISUAL_TOKENS, HIDDEN))
    context = Context(engine)
    context.append([tiny.processor.bos_id])
    context.append_image(tiny.processor.image_id, features.astype(np.float32), [5])
    return context


def plain_loop(
    engine: Any, context: Context, prompt: list[int], grammar: Grammar, limit: int
) -> tuple[list[int], list[float]]:
    """Decode with one forward pass a token, of the whole answer each time: no cache is kept."""
    state, ids, chosen = grammar.start(), [], []
    while not state.finished:
        logits = context.fork().append([*prompt, *ids])[-1]
        mask = state.allowed(closing=len(ids) >= limit)
        ids.append(int(np.where(mask, logits, -np.inf).argmax()))
        chosen.append(float(logits[ids[-1]]))
        state = state.advance(ids[-1])
    return ids, chosen


@pytest.mark.parametrize('question', QUESTIONS)
@pytest.mark.parametrize('seed', [0, 1])
def test_tokens_and_logits_equal_those_of_the_plain_loop(
    tiny: TinyModel, pushed: PushedEngine, grammar: Grammar, question: str, seed: int
) -> None:
    prompt = tiny.processor.encode_question(question)
    context = prefix(pushed, tiny, seed)
    expected, logits = plain_loop(pushed, context, prompt, grammar, limit=50)
    tokens = list(Decoder(grammar, 50).stream(Asked(context.fork(), prompt)))
    assert [token.id for token in tokens] == expected
    asked = [place for place, token in enumerate(tokens) if not token.forced]
    found = [tokens[place].logit for place in asked]
    assert found == pytest.approx([logits[place] for place in asked], abs=1e-4)


def test_the_pushed_model_makes_boxes(
    tiny: TinyModel, pushed: PushedEngine, grammar: Grammar
) -> None:
    # Otherwise the equality above would say nothing about forced tokens.
    ids = [token.id for token in answer(pushed, tiny, grammar, QUESTIONS[0])]
    assert grammar.box_close in ids


def answer(
    engine: Any, tiny: TinyModel, grammar: Grammar, question: str, limit: int = 60
) -> list[DecodedToken]:
    prompt = tiny.processor.encode_question(question)
    return list(Decoder(grammar, limit).stream(Asked(prefix(engine, tiny), prompt)))


def test_forced_tokens_cost_no_forward_pass(
    tiny: TinyModel, pushed: PushedEngine, grammar: Grammar
) -> None:
    tokens = answer(pushed, tiny, grammar, QUESTIONS[0])
    free = sum(token.forced for token in tokens)
    assert free > 0
    assert len(pushed.lengths) - 2 == len(tokens) - free  # two for the prefix


@pytest.mark.parametrize('limit', [0, 1, 5, 17, 40])
@pytest.mark.parametrize('question', QUESTIONS[:3])
def test_the_limit_ends_an_answer_grammatically(
    tiny: TinyModel, pushed: PushedEngine, grammar: Grammar, limit: int, question: str
) -> None:
    ids = [token.id for token in answer(pushed, tiny, grammar, question, limit)]
    assert ids[-1] == grammar.eos_id
    assert parse(tiny.processor.decode(ids))[1] == ()
    assert len(ids) <= limit + 48


def test_confidence_is_the_agreement_of_the_four_coordinates(
    tiny: TinyModel, pushed: PushedEngine, grammar: Grammar
) -> None:
    prompt = tiny.processor.encode_question(QUESTIONS[0])
    context = prefix(pushed, tiny)
    tokens = answer(pushed, tiny, grammar, QUESTIONS[0])
    closing = [place for place, token in enumerate(tokens) if token.id == grammar.box_close]
    assert [place for place, token in enumerate(tokens) if token.confidence is not None] == closing
    ids, shares = [token.id for token in tokens], []
    first = grammar.first_number
    for place in (closing[0] - offset for offset in (8, 6, 4, 2)):
        logits = context.fork().append([*prompt, *ids[:place]])[-1].astype(float)
        weights = np.exp(logits[first : first + 1001] - logits[first : first + 1001].max())
        chosen = ids[place] - first
        near = np.abs(np.arange(1001) - chosen) <= 20
        shares.append(weights[near].sum() / weights.sum())
    confidence = tokens[closing[0]].confidence
    assert confidence == pytest.approx(np.prod(shares) ** 0.25, abs=1e-4)
    assert confidence is not None
    assert 0 < confidence < 1


def test_cancel_stops_before_the_next_forward_pass(
    tiny: TinyModel, pushed: PushedEngine, grammar: Grammar
) -> None:
    context = prefix(pushed, tiny)
    stopped = False
    asked = Asked(context, tiny.processor.encode_question('find'), cancel=lambda: stopped)
    stream = Decoder(grammar).stream(asked)
    next(stream)
    passes = len(pushed.lengths)
    stopped = True
    with pytest.raises(Cancelled):
        list(stream)
    assert len(pushed.lengths) == passes


def together(
    decoder: Decoder, asked: Sequence[Asked]
) -> tuple[list[list[DecodedToken]], dict[int, UnifiedMLLMError]]:
    tokens: list[list[DecodedToken]] = [[] for _ in asked]
    errors = {}
    for place, said in decoder.stream_all(asked):
        if isinstance(said, UnifiedMLLMError):
            errors[place] = said
        else:
            tokens[place] += said
    return tokens, errors


def test_answers_decoded_together_equal_single_ones(
    tiny: TinyModel, pushed: PushedEngine, grammar: Grammar
) -> None:
    decoder = Decoder(grammar, 50)
    prompts = [tiny.processor.encode_question(question) for question in QUESTIONS]
    contexts = [prefix(pushed, tiny, seed) for seed in (0, 1)]
    alone = [
        list(decoder.stream(Asked(context.fork(), prompt)))
        for context in contexts
        for prompt in prompts
    ]
    pushed.lengths.clear()
    asked = [Asked(context.fork(), prompt) for context in contexts for prompt in prompts]
    found, errors = together(decoder, asked)
    assert not errors
    for ours, theirs in zip(found, alone, strict=True):
        assert [token.id for token in ours] == [token.id for token in theirs]
        logits, expected = ([token.logit for token in t] for t in (ours, theirs))
        assert logits == pytest.approx(expected, abs=1e-4)
    assert len(pushed.lengths) <= max(len(tokens) for tokens in alone)


def test_what_ends_one_answer_leaves_the_others_alone(
    tiny: TinyModel, pushed: PushedEngine, grammar: Grammar
) -> None:
    decoder = Decoder(grammar, 50)
    context = prefix(pushed, tiny)
    prompts = [tiny.processor.encode_question(question) for question in QUESTIONS[:3]]
    calls = iter([False, False, True])
    long = tiny.processor.encode_question('mug ' * 600)
    asked = [
        Asked(context.fork(), prompts[0]),
        Asked(context.fork(), prompts[1], cancel=lambda: next(calls)),
        Asked(context.fork(), long),
        Asked(context.fork(), prompts[2]),
    ]
    found, errors = together(decoder, asked)
    assert {place: type(error) for place, error in errors.items()} == {
        1: Cancelled,
        2: InstructionError,
    }
    assert found[1]
    for place, prompt in ((0, prompts[0]), (3, prompts[2])):
        alone = list(decoder.stream(Asked(context.fork(), prompt)))
        assert [token.id for token in found[place]] == [token.id for token in alone]


def test_bad_numbers_of_one_answer_leave_the_others_alone(
    tiny: TinyModel, pushed: PushedEngine, grammar: Grammar
) -> None:
    context = prefix(pushed, tiny)
    spoilt = context.fork()
    spoilt.show(tiny.processor.image_id, np.full((VISUAL_TOKENS, HIDDEN), np.nan, np.float32))
    shown = [tiny.processor.image_id] * VISUAL_TOKENS
    prompt = tiny.processor.encode_question(QUESTIONS[0])
    decoder = Decoder(grammar, 50)
    found, errors = together(
        decoder, [Asked(spoilt, [*shown, *prompt]), Asked(context.fork(), prompt)]
    )
    assert errors.keys() == {0}
    assert isinstance(errors[0], ModelError)
    assert spoilt.length == context.length  # what was computed of it is forgotten
    alone = list(decoder.stream(Asked(context.fork(), prompt)))
    assert [token.id for token in found[1]] == [token.id for token in alone]


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_numbers_that_are_not_finite_refuse_the_answer(
    tiny: TinyModel, engine: OnnxEngine, grammar: Grammar, value: float
) -> None:
    bias = np.zeros(grammar.vocab_size, np.float32)
    bias[3] = value
    with pytest.raises(ModelError, match='not finite') as caught:
        answer(PushedEngine(engine, bias), tiny, grammar, 'find')
    assert caught.value.code == 'model_failed'


def test_a_prompt_that_leaves_no_room_is_refused_at_once(
    tiny: TinyModel, pushed: PushedEngine, grammar: Grammar
) -> None:
    with pytest.raises(InstructionError, match='no room'):
        answer(pushed, tiny, grammar, 'mug ' * 600)
    assert len(pushed.lengths) == 2


def test_an_answer_fits_into_the_room_that_is_left(
    tiny: TinyModel, engine: OnnxEngine, grammar: Grammar
) -> None:
    bias = np.zeros(grammar.vocab_size, np.float32)
    bias[grammar.eos_id] = -99
    tokens = answer(PushedEngine(engine, bias), tiny, grammar, 'x' * 200, limit=10**6)
    assert tokens[-1].id == grammar.eos_id
