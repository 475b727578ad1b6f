"""`ask` of a perception node whose task calls an expert node carries out, over the graph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from rclpy.parameter import Parameter

from tests.nodes.expert_graph import STEPS, ExpertGraph, closing
from tests.nodes.graph import Graph, Inbox, header, picture, raw_image, stamped
from tests.nodes.scripted import ANSWERS, ScriptedModel
from unifiedmllm_ros.action import Ask
from unifiedmllm_ros.errors import ExpertError
from unifiedmllm_ros.msg import ErrorCode

BOX = '<p>red mug</p><box>[0.250, 0.250, 0.500, 0.500]</box>'
CHAIN = (
    f'Done. <seg>{BOX}</seg><regedit>remove it{BOX}</regedit><edit>make it night</edit>'
    f'<seg>{BOX}</seg>'
)
SUCCEEDED, ABORTED = GoalStatus.STATUS_SUCCEEDED, GoalStatus.STATUS_ABORTED


@pytest.fixture
def experts(ros: None, tmp_path: Path) -> Iterator[ExpertGraph]:
    for graph in closing(tmp_path / 'output'):
        graph.activate()
        yield graph


@pytest.fixture
def graph(ros: None) -> Iterator[Graph]:
    answers = {**ANSWERS, 'chain': (CHAIN, None), 'film': ('<vidgen>a cat</vidgen>', None)}
    graph = Graph(ScriptedModel(answers), Parameter('expert_node', value='execute_task'))
    graph.activate()
    yield graph
    graph.close()


def test_a_call_is_carried_out_and_its_result_comes_with_the_answer(
    experts: ExpertGraph, graph: Graph
) -> None:
    experts.script.end.clear()
    feedback = Inbox()
    handle = graph.result(
        graph.asking.send_goal_async(
            Ask.Goal(instruction='draw a cat', image=raw_image(7)), lambda m: feedback(m.feedback)
        )
    )
    told = feedback.wait(lambda f: f.progress == 1.0)
    assert (told.task, told.partial_text.strip()) == ('gen', 'Here it is.')
    experts.script.end.set()
    wrapped = graph.result(handle.get_result_async())
    assert (wrapped.status, wrapped.result.error_code) == (SUCCEEDED, ErrorCode.NONE)
    assert wrapped.result.response.text == 'Here it is.'
    (one,) = wrapped.result.results
    assert (one.call.task, one.call.argument) == ('gen', 'a cat')
    assert one.provenance.expert == 'text_to_image'
    assert (one.images[0].width, one.images[0].height) == (64, 48)


def test_each_call_goes_on_from_the_one_before(experts: ExpertGraph, graph: Graph) -> None:
    result = graph.ask('chain', image=raw_image(7))[0].result
    assert result.error_code == ErrorCode.NONE, result.error_msg
    assert [one.call.task for one in result.results] == ['seg', 'seg', 'regedit', 'edit']
    assert np.count_nonzero(np.frombuffer(result.masks.data, np.uint8)) == 12 * 16
    edits = [one for one in result.results if one.call.task != 'seg']
    assert all(one.images[0].header == header(7) for one in edits)
    first, second = experts.script.requests
    assert np.array_equal(first.image, picture())
    assert set(second.image.ravel()) == {edits[0].provenance.seed % 256}


def test_a_video_is_told_by_its_path(experts: ExpertGraph, graph: Graph) -> None:
    (one,) = graph.ask('film', image=raw_image(7))[0].result.results
    assert Path(one.paths[0]).suffix == '.mp4'
    assert Path(one.paths[0]).is_file()


def test_other_questions_are_answered_meanwhile(experts: ExpertGraph, graph: Graph) -> None:
    experts.script.gate.clear()
    drawing = graph.ask_handle('draw a cat', image=raw_image(1))
    assert experts.script.started.wait(10)
    assert graph.ask('find the mug', image=raw_image(2))[0].status == SUCCEEDED
    experts.script.gate.set()
    assert graph.result(drawing.get_result_async()).status == SUCCEEDED


def test_text_and_boxes_only(experts: ExpertGraph, graph: Graph) -> None:
    assert graph.ask('draw a cat', image=raw_image(1), execute=False)[0].result.results == []
    assert experts.script.requests == []


def test_a_standing_instruction_makes_nothing(experts: ExpertGraph, graph: Graph) -> None:
    graph.instruct('draw a cat')
    graph.send(1)
    response = graph['response'].wait(stamped(1))
    assert (response.error_code, response.calls[0].task) == (ErrorCode.NONE, 'gen')
    assert experts.script.requests == []


def test_an_expert_that_fails_leaves_the_answer(experts: ExpertGraph, graph: Graph) -> None:
    experts.script.defects = [ExpertError('NaN in the picture')]
    wrapped = graph.ask('chain', image=raw_image(7))[0]
    assert (wrapped.status, wrapped.result.response.text) == (SUCCEEDED, 'Done.')
    assert (wrapped.result.error_code, wrapped.result.error_msg) == (
        ErrorCode.EXPERT_FAILED,
        'NaN in the picture',
    )
    codes = [one.error_code for one in wrapped.result.results]
    assert codes == [0, 0, ErrorCode.EXPERT_FAILED, 0]


def test_cancel_reaches_the_expert(experts: ExpertGraph, graph: Graph) -> None:
    experts.script.gate.clear()
    handle = graph.ask_handle('draw a cat', image=raw_image(1))
    assert experts.script.started.wait(10)
    graph.result(handle.cancel_goal_async())
    wrapped = graph.result(handle.get_result_async())
    assert wrapped.status == GoalStatus.STATUS_CANCELED
    assert wrapped.result.error_code == ErrorCode.CANCELLED
    experts.until(lambda: experts.node.statistics.snapshot().counts.get('cancelled') == 1)
    assert experts.script.steps == [1]
    experts.script.gate.set()
    assert graph.ask('draw a cat', image=raw_image(1))[0].status == SUCCEEDED


def test_deactivation_ends_the_question(experts: ExpertGraph, graph: Graph) -> None:
    experts.script.gate.clear()
    handle = graph.ask_handle('draw a cat', image=raw_image(1))
    assert experts.script.started.wait(10)
    assert graph.transition('deactivate')
    wrapped = graph.result(handle.get_result_async())
    assert (wrapped.status, wrapped.result.error_code) == (ABORTED, ErrorCode.NOT_ACTIVE)
    experts.until(lambda: experts.node.statistics.snapshot().counts.get('cancelled') == 1)


def unanswered(graph: Graph) -> Any:
    wrapped = graph.ask('draw a cat', image=raw_image(1))[0]
    assert (wrapped.status, wrapped.result.response.text) == (SUCCEEDED, 'Here it is.')
    return wrapped.result


def test_an_expert_node_that_is_not_there(graph: Graph) -> None:
    graph.set(expert_node_timeout=0.2)
    result = unanswered(graph)
    assert result.error_code == ErrorCode.EXPERT_NOT_INSTALLED
    assert 'experts.launch.py' in result.error_msg


def test_an_expert_node_that_is_not_active(experts: ExpertGraph, graph: Graph) -> None:
    assert experts.transition('deactivate')
    assert unanswered(graph).error_code == ErrorCode.NOT_ACTIVE


def test_an_expert_node_that_goes_away_during_the_task(experts: ExpertGraph, graph: Graph) -> None:
    graph.set(expert_node_timeout=0.5)
    experts.script.gate.clear()
    handle = graph.ask_handle('draw a cat', image=raw_image(1))
    assert experts.script.started.wait(10)
    assert experts.script.steps[0] < STEPS
    experts.executor.create_task(experts.node._action.destroy)
    result = graph.result(handle.get_result_async()).result
    assert result.error_code == ErrorCode.EXPERT_FAILED
    assert 'has gone' in result.error_msg
