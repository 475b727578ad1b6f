"""Transitions in and out of order, and those that fail."""

from __future__ import annotations

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState

from tests.nodes.graph import Graph, stamped
from unifiedmllm_ros.errors import ModelFileError
from unifiedmllm_ros.nodes.configuration import PerceptionParameters
from unifiedmllm_ros.nodes.perception_node import PerceptionNode, load


def test_through_all_states_twice(graph: Graph) -> None:
    for stamp in (1, 2):
        assert graph.state() == 'unconfigured'
        graph.activate()
        assert graph.state() == 'active'
        graph.instruct('find the mug')
        graph.send(stamp)
        graph['response'].wait(stamped(stamp))
        assert graph.transition('deactivate')
        assert graph.state() == 'inactive'
        assert graph.transition('cleanup')


def test_an_inactive_node_is_silent(graph: Graph) -> None:
    graph.activate()
    graph.instruct('find the mug')
    graph.send(1)
    graph['response'].wait(stamped(1))
    assert graph.transition('deactivate')
    graph.send(2)
    assert graph.transition('activate')
    graph.connected(graph.images)
    graph.send(3)
    graph['response'].wait(stamped(3))
    assert [m.header.stamp.sec for m in graph['response'].messages] == [1, 3]


@pytest.mark.parametrize('label', ['activate', 'deactivate', 'cleanup', 'nonsense'])
def test_a_transition_at_the_wrong_time_is_refused(graph: Graph, label: str) -> None:
    assert not graph.transition(label)
    assert graph.state() == 'unconfigured'
    assert graph.node.statistics.snapshot().last_error.startswith(f'transition {label} is not')
    graph.activate()
    graph.instruct('find the mug')
    graph.send(1)
    graph['response'].wait(stamped(1))


def test_a_transition_by_number_at_the_wrong_time_is_refused(graph: Graph) -> None:
    request = ChangeState.Request()
    for number in (250, Transition.TRANSITION_ACTIVATE):
        request.transition.id = number
        assert not graph.call(ChangeState, 'perception_node/change_state', request).success
    assert graph.state() == 'unconfigured'
    graph['diagnostics'].wait(lambda m: m.status[0].level == b'\x02')
    assert graph.node.statistics.snapshot().last_error == (
        f'transition {Transition.TRANSITION_ACTIVATE} is not possible: the node is unconfigured, '
        'possible are configure, shutdown'
    )


def test_a_model_that_cannot_be_loaded_leaves_the_node_unconfigured(graph: Graph) -> None:
    perceiver_factory, defects = graph.node._factory, [ModelFileError('decoder.onnx is missing')]

    def factory(settings: PerceptionParameters) -> object:
        if defects:
            raise defects.pop()
        return perceiver_factory(settings)

    graph.node._factory = factory
    assert not graph.transition('configure')
    assert graph.state() == 'unconfigured'
    shown = graph['diagnostics'].wait(lambda m: m.status[0].level == b'\x02')
    assert shown.status[0].message == 'decoder.onnx is missing'
    graph.activate()
    assert graph.state() == 'active'


def test_a_missing_model_is_named() -> None:
    with pytest.raises(Exception, match='no-such-model'):
        load(PerceptionParameters(model='no-such-model'))


def test_shutdown_from_active(graph: Graph) -> None:
    graph.activate()
    assert graph.transition('shutdown')
    assert graph.state() == 'finalized'


def test_autostart(ros: None) -> None:
    from rclpy.parameter import Parameter

    from tests.nodes.scripted import ScriptedModel, scripted_perceiver

    node = PerceptionNode(
        lambda settings: scripted_perceiver(ScriptedModel()),
        namespace='auto',
        parameter_overrides=[Parameter('autostart', value=True)],
    )
    assert node.settings.autostart
    assert node.start()
    assert node.state_label == 'active'
    node.destroy_node()
