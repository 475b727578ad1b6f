"""Drafts change the number of forward passes and nothing else, whatever they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unifiedmllm_ros.model.protocol import Conversation
from unifiedmllm_ros.runtime.context import Context
from unifiedmllm_ros.runtime.counts import Counts
from unifiedmllm_ros.runtime.decoding import Asked, DecodedToken, Decoder
from unifiedmllm_ros.runtime.grammar import Grammar
from unifiedmllm_ros.runtime.onnx_engine import OnnxEngine
from unifiedmllm_ros.runtime.speculation import Draft, Drafter, Rate, Rates
from unifiedmllm_ros.runtime.unified import UnifiedModel

from .conftest import TinyModel
from .test_decoding import QUESTIONS, PushedEngine, grammar, prefix, pushed

__all__ = ['grammar', 'pushed']  # fixtures
NUMBERS = range(100, 200)
LIMIT = 50
QUIET = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


class Fixed(Draft):
    """A draft that always proposes the rest of its guess."""

    def __init__(self, guess: Sequence[int], numbers: range = range(0)) -> None:
        super().__init__(guess, numbers, Rates(Rate(1.0), Rate(1.0), Rate(1.0)))


def answer(
    tiny: TinyModel,
    engine: Any,
    grammar: Grammar,
    question: str,
    draft: Draft | None = None,
    counts: Counts | None = None,
    limit: int = LIMIT,
) -> tuple[list[DecodedToken], Context]:
    context = prefix(engine, tiny)
    prompt = tiny.processor.encode_question(question)
    decoder = Decoder(grammar, limit)
    return list(decoder.stream(Asked(context, prompt, draft=draft), counts)), context


def assert_equal(found: Sequence[DecodedToken], expected: Sequence[DecodedToken]) -> None:
    assert [(t.id, t.forced) for t in found] == [(t.id, t.forced) for t in expected]
    assert np.allclose([t.logit for t in found], [t.logit for t in expected], atol=1e-3)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.confidence is None) == (theirs.confidence is None)
        assert ours.confidence == pytest.approx(theirs.confidence, abs=1e-3)


@pytest.mark.parametrize('question', QUESTIONS)
def test_the_right_draft_takes_few_passes(
    tiny: TinyModel, pushed: PushedEngine, grammar: Grammar, question: str
) -> None:
    expected, _ = answer(tiny, pushed, grammar, question)
    ids = [token.id for token in expected]
    counts = Counts()
    found, context = answer(tiny, pushed, grammar, question, Fixed(ids), counts)
    assert_equal(found, expected)
    assert counts.passes <= 1 + len(ids) // 24
    assert (counts.tokens, counts.forced) == (len(ids), sum(t.forced for t in expected))
    assert counts.accepted == counts.drafted
    held = prefix(pushed, tiny).length + len(tiny.processor.encode_question(question))
    assert held <= context.length <= held + len(ids)
    assert list(context.ids[held:]) == ids[: context.length - held]


@QUIET
@given(data=st.data())
def test_any_draft_gives_the_same_answer(
    data: st.DataObject, tiny: TinyModel, pushed: PushedEngine, grammar: Grammar
) -> None:
    question = data.draw(st.sampled_from(QUESTIONS))
    limit = data.draw(st.sampled_from([0, 7, LIMIT]))
    expected, _ = answer(tiny, pushed, grammar, question, limit=limit)
    token = st.integers(0, grammar.vocab_size - 1)
    guess = [t.id for t in expected]
    for place in data.draw(st.lists(st.integers(0, len(guess)), max_size=4)):
        guess[place : place + data.draw(st.integers(0, 2))] = data.draw(st.lists(token, max_size=2))
    guess = data.draw(st.sampled_from([guess, guess[1:], guess[::-1]]))
    numbers = range(grammar.first_number, grammar.last_number + 1)
    found, _ = answer(tiny, pushed, grammar, question, Fixed(guess, numbers), limit=limit)
    assert_equal(found, expected)


def test_the_context_goes_on_after_a_wrong_draft(
    tiny: TinyModel, pushed: PushedEngine, grammar: Grammar
) -> None:
    expected, plain = answer(tiny, pushed, grammar, QUESTIONS[0])
    ids = [token.id for token in expected]
    wrong = [*ids[:3], *ids[5:], *ids]
    _, drafted = answer(tiny, pushed, grammar, QUESTIONS[0], Fixed(wrong))
    for context in (plain, drafted):  # up to where nothing had to be computed any more
        context.truncate(min(plain.length, drafted.length))
    assert plain.ids == drafted.ids
    assert np.allclose(plain.append([5, 6]), drafted.append([5, 6]), atol=1e-3)


def test_a_draft_does_not_outgrow_the_room(
    tiny: TinyModel, engine: OnnxEngine, grammar: Grammar
) -> None:
    bias = np.zeros(grammar.vocab_size, np.float32)
    bias[grammar.eos_id] = -99
    pushed = PushedEngine(engine, bias)
    expected, _ = answer(tiny, pushed, grammar, 'x' * 200, limit=10**6)
    guess = [token.id for token in expected] + [7] * 60
    found, _ = answer(tiny, pushed, grammar, 'x' * 200, Fixed(guess), limit=10**6)
    assert_equal(found, expected)


def images(count: int) -> list[Any]:
    """Frames of a slowly changing picture."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 250, (48, 64, 3)).astype(np.uint8)
    return [picture + np.uint8(step // 2) for step in range(count)]


def test_frame_after_frame_answers_equal_those_without_speculation(tiny: TinyModel) -> None:
    models = [
        UnifiedModel.load(tiny.folder, threads=1, max_tokens=40, speculate=speculate)
        for speculate in (True, False)
    ]
    for image in images(6):
        seen = [model.encode(image) for model in models]
        for question in ('find the mug', 'find the bowl', 'find the mug'):
            # In other pieces, because these come pass by pass.
            texts = [
                ''.join(chunk.text for chunk in model.stream(f, Conversation(question)))
                for model, f in zip(models, seen, strict=True)
            ]
            assert texts[0] == texts[1]
    speculating, plain = (model.counts for model in models)
    assert speculating.tokens == plain.tokens
    assert speculating.passes < plain.passes / 2
    assert plain.drafted == 0
    assert 0 < speculating.acceptance_rate <= 1
    assert speculating.tokens_per_second > 0


# Drafts by themselves


def test_a_repeated_question_expects_its_last_answer_and_follows_moved_coordinates() -> None:
    drafter = Drafter(NUMBERS)
    drafter.learn([1, 2, 3], [10, 11, 150, 12, 160, 13])
    draft = drafter.draft([1, 2, 3])
    assert draft.ahead()[:2] == [10, 11]
    for token in (10, 11, 151, 12, 161):
        draft.follow(token)
    assert draft.ahead() == [13]


def test_coordinates_that_stopped_paying_are_tried_again() -> None:
    drafter = Drafter(NUMBERS)
    answers = [[10, 150 + move, 11, 160 + move, 12] for move in (0, 1)]

    def ask(turn: int, revised: bool) -> bool:
        """Whether coordinates were proposed; the model says right or wrong things of them."""
        draft, answer = drafter.draft([1]), answers[turn % 2]
        proposed = len(draft.ahead()) > 1
        for place, token in enumerate(answer):
            draft.follow(token)
            if place == 1:  # the first one is wrong, and only known of proposed ones
                draft.ahead()
                if proposed:
                    draft.revise(1, [answer[3] if revised else 199] * 2)
        drafter.learn([1], answer)
        return proposed

    drafter.learn([1], answers[1])
    assert not all(ask(turn, revised=False) for turn in range(30))
    tries = [ask(turn, revised=True) for turn in range(100)]
    assert any(tries[:30])
    assert all(tries[-20:])


def test_coordinates_are_proposed_only_while_they_come_true() -> None:
    drafter = Drafter(NUMBERS)
    still, moved = [10, *[150, 11] * 10], [10, *[151, 11] * 10]
    for said in (still, moved) * 3:  # always the one that was not expected
        drafter.learn([1], said)
        draft = drafter.draft([1])
        for token in moved if said is still else still:
            draft.ahead()
            draft.follow(token)
    assert drafter.draft([1]).ahead() == [10]
    drafter.learn([1], still)
    for _ in range(3):
        draft = drafter.draft([1])
        for token in still:
            draft.follow(token)
    assert drafter.draft([1]).ahead() == still


def test_coordinates_ahead_become_what_the_model_says_in_their_place() -> None:
    draft = Fixed([10, 150, 11, 160, 12, 170, 13], NUMBERS)
    assert draft.ahead() == [10, 150, 11, 160, 12, 170, 13]
    for token in (10, 151):  # the model chose another than 150
        draft.follow(token)
    draft.revise(2, [111, 161, 112, 171, 113])
    assert draft.ahead() == [11, 161, 12, 171, 13], 'words stay as they were'
    draft.follow(11)
    draft.follow(161)
    draft.revise(0, [111, 162, 112, 172, 113])
    assert draft.ahead() == [12, 172, 13], 'what is behind is behind'


def test_coordinates_are_left_out_of_a_crowded_pass_unless_they_stay_where_they_are() -> None:
    rates = Rates()
    for moved in (True, False):
        for _ in range(20):
            draft = Draft([10, 150, 11], NUMBERS, rates)
            assert draft.ahead() == [10, 150, 11]
            draft.follow(10)
            draft.revise(1, [151 if moved else 150, 0])
            draft.follow(151 if moved else 150)
            draft.follow(11)
        draft = Draft([10, 150, 11], NUMBERS, rates)
        assert draft.ahead(crowded=True) == ([10] if moved else [10, 150, 11])
        assert draft.ahead() == [10, 150, 11]


def test_another_question_takes_the_words_of_its_own() -> None:
    drafter = Drafter(NUMBERS)
    drafter.learn([1, 2, 3, 4, 9], [20, 3, 4, 21, 150, 22])
    assert drafter.draft([1, 2, 5, 6, 7, 9]).ahead() == [20, 5, 6, 7, 21, 150, 22]
    assert drafter.draft([8, 2, 3]).ahead() == []


def test_a_lost_place_is_found_again() -> None:
    draft = Fixed([10, 11, 12, 13, 14])
    for token in (10, 77):
        draft.follow(token)
    assert draft.ahead() == []
    draft.follow(12)
    assert draft.ahead() == [13, 14]


def test_answers_are_forgotten_in_time() -> None:
    drafter = Drafter(NUMBERS)
    for number in range(200):
        drafter.learn([number], [10])
    assert drafter.draft([0]).ahead() == []
    assert drafter.draft([199]).ahead() == [10]


def test_an_image_is_whole_and_followed_by_an_id(tiny: TinyModel, engine: OnnxEngine) -> None:
    context = prefix(engine, tiny)
    for ids in ([tiny.processor.image_id] * 2 + [5], [tiny.processor.image_id] * 6):
        with pytest.raises(ValueError, match='an image takes'):
            context.append(ids)
