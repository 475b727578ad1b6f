"""The tabletop benchmark's judgement of answers."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from unifiedmllm_ros.evaluation.tabletop import judge, summary, table
from unifiedmllm_ros.model.protocol import ModelInfo
from unifiedmllm_ros.perception import Answer
from unifiedmllm_ros.representation import parse
from unifiedmllm_ros.tabletop.lexicon import default_lexicon
from unifiedmllm_ros.tabletop.questions import Question, questions
from unifiedmllm_ros.tabletop.symbolic import sample_scene

LEXICON = default_lexicon()
SCENE = sample_scene(Random(2), LEXICON, 6)
ASKED = questions(SCENE, Random(1), count=40)
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
