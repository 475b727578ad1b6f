"""The nodes as programs of their own: start, serve, end; and simulated time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from builtin_interfaces.msg import Time
from lifecycle_msgs.srv import GetState
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String

from tests.nodes.graph import Graph, stamped
from tests.nodes.scripted import ScriptedModel
from unifiedmllm_ros.msg import ErrorCode
from unifiedmllm_ros.srv import ListExperts

PROGRAMS = Path(__file__).resolve().parents[2] / 'scripts' / 'ros'


def start(name: str, *parameters: str) -> subprocess.Popen[str]:
    options = [word for parameter in parameters for word in ('-p', parameter)]
    return subprocess.Popen(
        [sys.executable, str(PROGRAMS / name), '--ros-args', '-r', '__ns:=/program', *options],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )


def end(program: subprocess.Popen[str]) -> str:
    program.send_signal(signal.SIGINT)
    return program.communicate(timeout=20)[1]


def test_perception_node_starts_serves_and_ends(graph: Graph) -> None:
    program = start('perception_node', 'model:=no-such-model', 'autostart:=true')
    try:
        state = graph.inquire(GetState, '/program/perception_node/get_state', GetState.Request())
        assert state.current_state.label == 'unconfigured'
    finally:
        told = end(program)
    assert program.returncode == 0
    assert 'no-such-model' in told


def test_expert_node_starts_serves_and_ends(graph: Graph) -> None:
    program = start('expert_node', 'autostart:=true')
    try:
        asked = ListExperts.Request(task='seg')
        name = '/program/list_experts'
        answer = graph.inquire(ListExperts, name, asked)
        while answer.error_code == ErrorCode.NOT_ACTIVE:  # it is still being configured
            answer = graph.inquire(ListExperts, name, asked)
        assert [expert.tasks for expert in answer.experts] == [['seg']]
    finally:
        told = end(program)
    assert program.returncode == 0
    assert 'Traceback' not in told


@pytest.mark.parametrize('parameter', ['max_pending_jobs:=0', 'output_folder:=here'])
def test_a_bad_parameter_of_expert_node_is_told_in_one_line(parameter: str) -> None:
    program = start('expert_node', parameter)
    told = program.communicate(timeout=30)[1]
    assert program.returncode == 1
    assert 'Traceback' not in told
    assert parameter.split(':')[0] in told


@pytest.mark.parametrize(
    'parameter',
    ['max_tokens:=0', 'input:=smoke', 'min_confidence:=high', 'instruction:=' + 'z' * 3000],
)
def test_a_bad_parameter_is_told_in_one_line(parameter: str) -> None:
    program = start('perception_node', parameter)
    told = program.communicate(timeout=30)[1]
    assert program.returncode == 1
    assert 'Traceback' not in told
    assert parameter.split(':')[0] in told


@pytest.fixture
def simulated(ros: None) -> Iterator[Graph]:
    graph = Graph(ScriptedModel(), Parameter('use_sim_time', value=True))
    yield graph
    graph.close()


def test_simulated_time_is_the_nodes_time(simulated: Graph) -> None:
    clock = simulated.client.create_publisher(Clock, '/clock', 10)
    simulated.activate()
    simulated.connected(clock)
    clock.publish(Clock(clock=Time(sec=500)))
    simulated.until(lambda: simulated.node.get_clock().now().nanoseconds == 500 * 10**9)
    simulated.instructions.publish(String(data=''))
    failed = simulated['response'].wait(stamped(500))
    assert failed.error_code == ErrorCode.INVALID_INSTRUCTION
    simulated['diagnostics'].wait(stamped(500))
    simulated.instruct('find the mug')
    simulated.send(499)
    simulated['response'].wait(stamped(499))
    assert simulated.node.statistics.snapshot().frame_age_ms == 1000.0


def test_a_rate_limit_does_not_stop_at_a_clock_that_stands_still(simulated: Graph) -> None:
    simulated.set(max_rate=1.0, instruction='find the mug')
    simulated.activate()
    for stamp in (1, 2):
        simulated.send(stamp)
        simulated['response'].wait(stamped(stamp))
