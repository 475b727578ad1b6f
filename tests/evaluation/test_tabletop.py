"""The tabletop benchmark's judgement of answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from unifiedmllm_ros.evaluation.tabletop import (
    TabletopTest,
    evaluate,
    judge,
    report_of,
    summary,
    table,
)
from unifiedmllm_ros.model.protocol import Conversation, ModelInfo, TextChunk
from unifiedmllm_ros.perception import Answer, Perceiver
from unifiedmllm_ros.representation import parse
from unifiedmllm_ros.tabletop.lexicon import default_lexicon
from unifiedmllm_ros.tabletop.questions import Question, questions
from unifiedmllm_ros.tabletop.symbolic import sample_scene

LEXICON = default_lexicon()
SCENE = sample_scene(Random(2), LEXICON, 6)
ASKED = questions(SCENE, Random(1), count=150)
OWNERS = np.zeros((24, 32), np.uint8)


def answer(text: str) -> Answer:
    response, problems = parse(text)
    stages = {'encode': 1.0, 'decode': 2.0, 'experts': 0.0}
    return Answer('', text, response, problems, (), (), (), stages, ModelInfo('test', 'none'))


def first(kind: str) -> Question:
    return next(q for q in ASKED if q.kind == kind)


@pytest.mark.parametrize('question', ASKED, ids=lambda q: q.kind)
def test_the_truth_is_right(question: Question) -> None:
    outcome = judge(SCENE, question, answer(question.answer_text), OWNERS)
    assert outcome.right(0.99)
    assert outcome.task_right
    assert outcome.problems == 0


def test_a_moved_box_is_right_only_at_a_low_threshold() -> None:
    question = next(q for q in ASKED if q.kind == 'name' and q.task == 'ground')
    region = question.answer.regions[0]
    x1, _, x2, _ = region.boxes[0].corners
    moved = x1 + 0.2 * (x2 - x1)
    text = question.answer_text.replace(f'[{x1:.3f}', f'[{moved:.3f}')
    outcome = judge(SCENE, question, answer(text), OWNERS)
    assert outcome.right(0.5)
    assert not outcome.right(0.9)


def test_one_box_more_is_wrong() -> None:
    question = next(q for q in ASKED if q.kind == 'name' and q.task == 'ground')
    text = question.answer_text + '<p>thing</p><box>[0.000, 0.000, 0.100, 0.100]</box>'
    assert not judge(SCENE, question, answer(text), OWNERS).right(0.5)


def test_an_invented_object_is_not_rejected() -> None:
    question = first('absent')
    text = '<p>hammer</p><box>[0.100, 0.100, 0.300, 0.300]</box>'
    assert not judge(SCENE, question, answer(text), OWNERS).right(0.0)


def test_summary_counts_each_kind() -> None:
    right = [judge(SCENE, q, answer(q.answer_text), OWNERS) for q in ASKED]
    wrong = [judge(SCENE, q, answer('There is no'), OWNERS) for q in ASKED if q.kind == 'name']
    report = summary(right + wrong)
    assert report['absent_rejected'] == 1.0
    names = report['kinds']['name']
    assert names['acc50'] == 0.5
    assert names['questions'] == 2 * len(wrong)
    assert 'name' in table(report)


def test_a_layout_is_right_by_its_numbers_and_places_not_by_its_boxes() -> None:
    layouts = [q for q in ASKED if q.kind == 'layout' and q.arrangement and q.arrangement.relations]
    question = next(q for q in layouts if q.relation == 'left of')
    assert question.arrangement
    (call,) = question.answer.calls
    (first, number), (second, other) = question.arrangement.counts[:2]
    a = ''.join(f'<box>[0.{n}00, 0.400, 0.{n}50, 0.600]</box>' for n in range(number))
    b = ''.join(f'<box>[0.{n}00, 0.400, 0.{n}50, 0.600]</box>' for n in range(5, 5 + other))
    text = f'<layout>{call.argument}<p>{first}</p>{a}<p>{second}</p>{b}'
    if len(question.arrangement.counts) == 2:
        outcome = judge(SCENE, question, answer(text + '</layout>'), OWNERS)
        assert outcome.complete
        assert (outcome.numerical, outcome.spatial) == (True, True)
    swapped = f'<layout>{call.argument}<p>{second}</p>{a}<p>{first}</p>{b}</layout>'
    assert judge(SCENE, question, answer(swapped), OWNERS).spatial is False


def test_an_argument_must_be_word_for_word() -> None:
    question = first('gen')
    (call,) = question.answer.calls
    assert judge(SCENE, question, answer(question.answer_text), OWNERS).argument_right
    for text in (f'<gen>{call.argument} too</gen>', f'<edit>{call.argument}</edit>', 'I can not.'):
        outcome = judge(SCENE, question, answer(text), OWNERS)
        assert outcome.argument_right is False
        assert not outcome.complete


def test_a_call_for_what_should_be_refused_is_wrong() -> None:
    question = first('refusal')
    text = question.answer_text + '<gen>a cat</gen>'
    assert not judge(SCENE, question, answer(text), OWNERS).complete
    assert judge(SCENE, question, answer(question.answer_text), OWNERS).complete


def test_a_caption_is_judged_by_every_word() -> None:
    question = next(q for q in ASKED if q.kind == 'caption' and q.judged == ('words',))
    said = question.answer_text.replace('I see', 'I can see')
    assert not judge(SCENE, question, answer(said), OWNERS).complete


def test_one_report_holds_known_and_held_out_wordings_and_dialogues() -> None:
    right = [judge(SCENE, q, answer(q.answer_text), OWNERS) for q in ASKED]
    wrong = [judge(SCENE, q, answer('no'), OWNERS) for q in ASKED]
    report = report_of({'test': right + wrong, 'train': right}, [right[:3], wrong[:3]])
    assert report['right'] == 0.5
    assert report['known_phrasings']['right'] == 1.0
    assert report['phrasing_gap']['argument_exact'] == 50.0
    assert report['layout_numerical'] == 0.5
    assert report['dialogues']['all_right'] == 0.5
    assert report['dialogues']['right_by_turn'] == [0.5, 0.5, 0.5]
    text = table(report)
    assert 'dialogues all_right' in text
    assert 'known Acc@0.5' in text


class Truthful:
    """A model that knows every answer of a test, for the question it gets and what went before."""

    max_tokens = 1000
    info = ModelInfo('truthful', 'none')

    def __init__(self, test: TabletopTest) -> None:
        self.known: dict[tuple[str, ...], str] = {}
        for scene in test:
            for split in test.wordings:
                self.known |= {(q.text,): q.answer_text for q in test.asked(scene, split)}
            for talk in test.talks(scene):
                texts = tuple(q.text for q in talk)
                self.known |= {texts[: n + 1]: q.answer_text for n, q in enumerate(talk)}

    def encode(self, image: NDArray[np.uint8]) -> Any:
        return image

    def stream(self, features: Any, conversation: Conversation, cancel: Any) -> Iterator[TextChunk]:
        asked = (*(turn.question for turn in conversation.history), conversation.question)
        yield TextChunk(self.known[asked])


def test_a_run_shows_the_model_its_own_earlier_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'images').mkdir()
    (tmp_path / 'masks').mkdir()
    scene = replace(SCENE, image='images/0.jpg', mask='masks/0.png')
    cv2.imwrite(str(tmp_path / scene.image), np.zeros((240, 320, 3), np.uint8))
    cv2.imwrite(str(tmp_path / scene.mask), np.zeros((240, 320), np.uint8))
    (tmp_path / 'scenes.jsonl').write_text(json.dumps(scene.to_json()) + '\n')
    test = TabletopTest(tmp_path, None, 30, 'both', 0, 4)
    perceiver = Perceiver(Truthful(test))
    monkeypatch.setattr(Perceiver, 'load', lambda *_, **__: perceiver)
    report = evaluate(test, 'truthful', failures=tmp_path / 'wrong.jsonl')
    assert report['right'] == report['known_phrasings']['right'] == 1.0
    assert report['dialogues']['dialogues'] == 4
    assert report['dialogues']['all_right'] == 1.0
    assert set(report['dialogues']['back_references_by_way'].values()) == {1.0}
    assert not (tmp_path / 'wrong.jsonl').read_text()
