"""The action `ask`: answers, feedback, cancel, and every way it can fail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from sensor_msgs.msg import CompressedImage, Image

from tests.nodes.graph import Graph, header, picture, raw_image
from unifiedmllm_ros.bridge.image import rgb_to_jpeg
from unifiedmllm_ros.errors import ModelError
from unifiedmllm_ros.model.protocol import Piece, Question
from unifiedmllm_ros.msg import ErrorCode

ABORTED, CANCELED = GoalStatus.STATUS_ABORTED, GoalStatus.STATUS_CANCELED
SUCCEEDED, EXECUTING = GoalStatus.STATUS_SUCCEEDED, GoalStatus.STATUS_EXECUTING


def test_a_question_about_a_given_image(graph: Graph) -> None:
    graph.activate()
    wrapped, feedback = graph.ask('find the mug', image=raw_image(42))
    result = wrapped.result
    assert wrapped.status == SUCCEEDED
    assert result.error_code == ErrorCode.NONE
    assert result.response.text == 'The mug is here.'
    assert result.response.header == header(42)
    assert result.detections.header == result.masks.header == header(42)
    assert result.detections.detections[0].results[0].hypothesis.class_id == 'red mug'
    assert np.count_nonzero(np.frombuffer(result.masks.data, np.uint8)) == 12 * 16
    assert result.label_info.class_map[0].class_name == 'red mug'
    assert feedback[-1].partial_text.strip() == 'The mug is here.'
    assert feedback[-1].elapsed_s > 0
    assert graph['response'].messages == []


def test_a_compressed_image_of_its_own(graph: Graph) -> None:
    graph.activate()
    jpeg = rgb_to_jpeg(picture(80, 60), header(5))
    wrapped, _ = graph.ask('find the mug', compressed_image=jpeg)
    assert wrapped.status == SUCCEEDED
    assert graph.model.seen == [(60, 80, 3)]
    assert wrapped.result.response.header == header(5)


def test_text_and_boxes_only(graph: Graph) -> None:
    graph.activate()
    wrapped, _ = graph.ask('find the mug', image=raw_image(1), execute=False)
    assert len(wrapped.result.detections.detections) == 1
    assert not any(wrapped.result.masks.data)


def test_an_image_is_looked_at_once_for_many_questions(graph: Graph) -> None:
    graph.activate()
    graph.send(1)
    graph['diagnostics'].wait(lambda m: any(v.value == '1' for v in m.status[0].values))
    for question in ('find the mug', 'find all bowls', 'is there a hammer?'):
        assert graph.ask(question)[0].status == SUCCEEDED
    assert len(graph.model.seen) == 1


def test_cancel_in_the_middle_of_an_answer(graph: Graph) -> None:
    graph.activate()
    graph.model.gate.clear()
    handle = graph.ask_handle('find the mug', image=raw_image(1))
    assert graph.model.started.wait(10)
    assert handle.status in (EXECUTING, GoalStatus.STATUS_ACCEPTED)
    cancel = graph.result(handle.cancel_goal_async())
    assert len(cancel.goals_canceling) == 1
    wrapped = graph.result(handle.get_result_async())
    assert wrapped.status == CANCELED
    assert wrapped.result.error_code == ErrorCode.CANCELLED
    graph.model.gate.set()
    assert graph.ask('find the mug', image=raw_image(2))[0].status == SUCCEEDED


def test_cancel_while_waiting_leaves_the_one_before_alone(graph: Graph) -> None:
    graph.activate()
    graph.model.gate.clear()
    first = graph.ask_handle('find the mug', image=raw_image(1))
    assert graph.model.started.wait(10)
    second = graph.ask_handle('find the mug', image=raw_image(2))
    graph.result(second.cancel_goal_async())
    graph.model.gate.set()
    assert graph.result(second.get_result_async()).status == CANCELED
    assert graph.result(first.get_result_async()).status == SUCCEEDED
    assert graph.model.asked == ['find the mug']


def test_a_question_too_many_is_refused(graph: Graph) -> None:
    graph.set(max_pending_questions=1)
    graph.activate()
    graph.model.gate.clear()
    first = graph.ask_handle('find the mug', image=raw_image(1))
    assert graph.model.started.wait(10)
    second = graph.ask_handle('find the mug', image=raw_image(2))
    third, _ = graph.ask('find the mug', image=raw_image(3))
    assert third.status == ABORTED
    assert third.result.error_code == ErrorCode.BUSY
    graph.model.gate.set()
    for handle in (first, second):
        assert graph.result(handle.get_result_async()).status == SUCCEEDED


def test_questions_that_wait_are_answered_together(graph: Graph) -> None:
    graph.activate()
    model = graph.model
    batches: list[list[str]] = []

    def stream_all(questions: Sequence[Question]) -> Iterator[Piece]:
        batches.append([question.conversation.question for question in questions])
        for place, one in enumerate(questions):
            for chunk in model.stream(one.features, one.conversation, one.cancel):
                yield Piece(place, chunk)
            yield Piece(place)

    model.encode_all = lambda images: [model.encode(image) for image in images]
    model.stream_all = stream_all
    model.gate.clear()
    first = graph.ask_handle('find the mug', image=raw_image(1))
    assert model.started.wait(10)
    asked = [('find the mug', raw_image(2)), ('find all bowls', raw_image(3))]
    asked += [('is there a hammer?', raw_image(4)), ('find the mug', Image(encoding='rgb9'))]
    handles = [graph.ask_handle(question, image=image) for question, image in asked]
    graph.result(handles[2].cancel_goal_async())
    model.gate.set()
    ends = [graph.result(handle.get_result_async()) for handle in (first, *handles)]
    assert [end.status for end in ends] == [SUCCEEDED, SUCCEEDED, SUCCEEDED, CANCELED, ABORTED]
    assert ends[4].result.error_code == ErrorCode.INVALID_IMAGE
    assert batches == [['find the mug'], ['find the mug', 'find all bowls']]
    assert ends[2].result.response.header == header(3)
    assert len(ends[2].result.detections.detections) == 2
    assert ends[1].result.response.text == 'The mug is here.'


def test_a_node_that_is_not_active_says_so(graph: Graph) -> None:
    wrapped, _ = graph.ask('find the mug', image=raw_image(1))
    assert wrapped.status == ABORTED
    assert wrapped.result.error_code == ErrorCode.NOT_ACTIVE
    assert 'unconfigured' in wrapped.result.error_msg


def test_deactivation_ends_a_running_question(graph: Graph) -> None:
    graph.activate()
    graph.model.gate.clear()
    handle = graph.ask_handle('find the mug', image=raw_image(1))
    assert graph.model.started.wait(10)
    assert graph.transition('deactivate')
    wrapped = graph.result(handle.get_result_async())
    assert wrapped.status == ABORTED
    assert wrapped.result.error_code == ErrorCode.NOT_ACTIVE


def broken_images() -> dict[str, dict]:
    huge = np.zeros((6000, 8000), np.uint8)
    jpeg = cv2.imencode('.jpg', picture())[1].tobytes()
    return {
        'unknown encoding': {'image': Image(encoding='rgb9', width=2, height=2, step=6)},
        'zero size': {'image': Image(encoding='rgb8')},
        'wrong step': {'image': Image(encoding='rgb8', width=9, height=9, step=9)},
        'short data': {'image': Image(encoding='rgb8', width=9, height=1, step=27, data=b'x')},
        'one pixel': {'image': Image(encoding='mono8', width=1, height=1, step=1, data=b'x')},
        'truncated': {'compressed_image': CompressedImage(format='jpeg', data=jpeg[:-100])},
        'huge': {
            'compressed_image': CompressedImage(
                format='jpeg', data=cv2.imencode('.jpg', huge)[1].tobytes()
            )
        },
    }


@pytest.mark.parametrize('name', broken_images())
def test_a_broken_image_is_an_error_and_the_node_lives_on(graph: Graph, name: str) -> None:
    graph.activate()
    wrapped, _ = graph.ask('find the mug', **broken_images()[name])
    assert wrapped.status == ABORTED
    assert wrapped.result.error_code == ErrorCode.INVALID_IMAGE
    assert wrapped.result.error_msg
    wrapped, _ = graph.ask('find the mug', image=raw_image(2))
    assert wrapped.status == SUCCEEDED


@pytest.mark.parametrize(
    'instruction', ['', ' \t\n', 'x' * 100_000, '\ufffd\ufffd', '\x01\x02'], ids=range(5)
)
def test_a_bad_instruction_is_an_error(graph: Graph, instruction: str) -> None:
    graph.activate()
    wrapped, _ = graph.ask(instruction, image=raw_image(1))
    assert wrapped.status == ABORTED
    assert wrapped.result.error_code == ErrorCode.INVALID_INSTRUCTION
    assert len(wrapped.result.response.instruction) <= 4000


def test_no_image_yet(graph: Graph) -> None:
    graph.activate()
    wrapped, _ = graph.ask('find the mug')
    assert wrapped.result.error_code == ErrorCode.NO_IMAGE


def test_a_model_that_breaks_down(graph: Graph) -> None:
    graph.activate()
    graph.model.defects = [ModelError('logits are NaN'), ZeroDivisionError('oops')]
    wrapped, _ = graph.ask('find the mug', image=raw_image(1))
    assert wrapped.result.error_code == ErrorCode.MODEL_FAILED
    assert wrapped.result.error_msg == 'logits are NaN'
    wrapped, _ = graph.ask('find the mug', image=raw_image(1))
    assert wrapped.result.error_code == ErrorCode.UNKNOWN
    assert wrapped.result.error_msg == 'ZeroDivisionError: oops'
    assert graph.ask('find the mug', image=raw_image(1))[0].status == SUCCEEDED


def test_an_answer_whose_expert_is_missing_is_still_an_answer(graph: Graph) -> None:
    graph.activate()
    wrapped, _ = graph.ask('draw a cat', image=raw_image(1))
    assert wrapped.status == SUCCEEDED
    assert wrapped.result.response.text == 'Here it is.'
    assert wrapped.result.error_code == ErrorCode.EXPERT_NOT_INSTALLED
    assert "'gen'" in wrapped.result.error_msg
