"""Several questions asked together: each answer is what it would be alone, and fails alone."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from tests.sample_frames import sample_frames, sample_questions
from tests.test_perception import CUP, IMAGE, ScriptedModel
from unifiedmllm_ros.errors import Cancelled, ImageError, InstructionError, NoImageError
from unifiedmllm_ros.model.protocol import Turn
from unifiedmllm_ros.perception import Answer, Perceiver, Request
from unifiedmllm_ros.session import Session

MORE = ('find the plate', 'where is the milk?', 'how many bowls are there?', 'what is left of it?')
FRAMES = 30


@pytest.fixture(scope='module')
def perceiver() -> Perceiver:
    return Perceiver.load('tabletop-nano', threads=1)


def texts(perceiver: Perceiver, requests: list[Request]) -> list[str]:
    found = dict(perceiver.ask_all(requests))
    assert sorted(found) == list(range(len(requests)))
    answers = [found[place] for place in sorted(found)]
    assert all(isinstance(answer, Answer) for answer in answers)
    return [answer.text for answer in answers if isinstance(answer, Answer)]


def test_a_dozen_questions_are_answered_as_they_are_one_by_one(perceiver: Perceiver) -> None:
    questions = [*sample_questions(), *MORE][:12]
    single = Perceiver.load('tabletop-nano', threads=1)
    for frame in sample_frames(FRAMES):
        perceiver.set_image(frame.image)
        asked = [Request(question, execute=False) for question in questions]
        alone = []
        for question in questions:
            single.set_image(frame.image)
            alone.append(single.ask(question, execute=False))
        assert texts(perceiver, asked) == [answer.text for answer in alone]
        turn = alone[0].turn
        follow = [Request(q, history=[turn], execute=False) for q in questions[:3]]
        expected = [single.ask(q, history=[turn], execute=False).text for q in questions[:3]]
        assert texts(perceiver, follow) == expected


def test_cameras_are_looked_through_together(perceiver: Perceiver) -> None:
    images = [frame.image for frame in sample_frames(FRAMES)][:3]
    asked = [Request('find all mugs', image=image, execute=False) for image in images]
    asked.append(Request('find the frying pan', image=images[0], execute=False))
    alone = []
    for request in asked:
        assert request.image is not None
        perceiver.set_image(request.image)
        alone.append(perceiver.ask(request.instruction, execute=False).text)
    assert texts(perceiver, asked) == alone


def test_each_has_its_own_masks_text_and_session(perceiver: Perceiver) -> None:
    frame = sample_frames(FRAMES)[0]
    perceiver.set_image(frame.image)
    said: dict[str, list[str]] = {'segment the red mug': [], 'find all mugs': []}
    session = Session()
    asked = [
        Request('segment the red mug', on_text=said['segment the red mug'].append, session=session),
        Request('find all mugs', on_text=said['find all mugs'].append, mask_all=True),
        Request('is there a hammer?', execute=False),
    ]
    found = dict(perceiver.ask_all(asked))
    for place, request in enumerate(asked):
        answer = found[place]
        assert isinstance(answer, Answer)
        boxes = sum(len(region.boxes) for region in answer.response.regions)
        assert len(answer.masks) == (0 if place == 2 else boxes)
        if request.instruction in said:
            assert ''.join(said[request.instruction]) == answer.response.text
    assert [turn.question for turn in session.turns] == ['segment the red mug']


def test_one_that_fails_or_is_cancelled_leaves_the_others(perceiver: Perceiver) -> None:
    frame = sample_frames(FRAMES)[0]
    perceiver.set_image(frame.image)
    stopped = threading.Event()
    stopped.set()
    asked = [
        Request('find all mugs', execute=False),
        Request('', execute=False),
        Request('find the frying pan', cancel=stopped, execute=False),
        Request('find all mugs', image=np.zeros((1, 1, 3), np.uint8), execute=False),
        Request('mug ' * 900, execute=False),
    ]
    found = dict(perceiver.ask_all(asked))
    kinds = [type(found[place]) for place in range(len(asked))]
    assert kinds == [Answer, InstructionError, Cancelled, ImageError, InstructionError]
    assert list(perceiver.ask_all([])) == []


def test_a_model_that_takes_one_at_a_time_is_asked_in_turn() -> None:
    model = ScriptedModel(f'A cup. {CUP}')
    perceiver = Perceiver(model)
    found = dict(perceiver.ask_all([Request('cup')]))
    assert isinstance(found[0], NoImageError)
    perceiver.set_image(IMAGE)
    stop = threading.Event()

    def heard(text: str) -> None:
        stop.set()

    asked = [
        Request('cup', on_text=heard, cancel=stop),
        Request('cup', history=[Turn('a', 'b')]),
        Request('cup', image=np.ascontiguousarray(IMAGE[::2])),
    ]
    found = dict(perceiver.ask_all(asked))
    assert isinstance(found[0], Cancelled)
    for place in (1, 2):
        answer = found[place]
        assert isinstance(answer, Answer)
        assert answer.text == f'A cup. {CUP}'
    assert model.encoded == 2
    assert [len(asked.history) for asked in model.asked] == [0, 1, 0]
