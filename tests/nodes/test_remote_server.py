"""The node with a model on a server: down at the start, gone in mid-sentence, back again."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from action_msgs.msg import GoalStatus
from rclpy.parameter import Parameter

from tests.nodes.graph import Graph, raw_image
from tests.nodes.scripted import ScriptedModel
from tests.runtime.remote.server import Server, breaks_off, fails, says
from unifiedmllm_ros.msg import ErrorCode
from unifiedmllm_ros.nodes.perception_node import load

MUG = '[{"bbox_2d": [250, 250, 500, 500], "label": "red mug"}]'


@pytest.fixture
def port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return int(free.getsockname()[1])


@pytest.fixture
def tethered(ros: None, port: int, tmp_path: Path) -> Iterator[Graph]:
    fields = {
        'kind': 'remote',
        'url': f'http://127.0.0.1:{port}/v1',
        'representation': 'qwen3-vl',
        'retries': 0,
    }
    path = tmp_path / 'server.json'
    path.write_text(json.dumps(fields))
    graph = Graph(ScriptedModel(), Parameter('model', value=str(path)), factory=load)
    yield graph
    graph.close()


def test_the_node_outlives_its_server(tethered: Graph, port: int) -> None:
    tethered.activate()
    image = raw_image(1)
    down, _ = tethered.ask('find the mug', image=image)
    assert down.status == GoalStatus.STATUS_ABORTED
    assert down.result.error_code == ErrorCode.MODEL_FAILED
    assert 'cannot be reached' in down.result.error_msg
    with Server(breaks_off('[{"bbox'), fails(500), says(MUG), port=port) as server:
        for reason in ('middle', '500'):
            failed, _ = tethered.ask('find the mug', image=image)
            assert failed.result.error_code == ErrorCode.MODEL_FAILED
            assert reason in failed.result.error_msg
        back, _ = tethered.ask('find the mug', image=image)
        assert len(server.requests) == 3
    assert back.status == GoalStatus.STATUS_SUCCEEDED
    (found,) = back.result.detections.detections
    assert found.results[0].hypothesis.class_id == 'red mug'
    assert back.result.response.model == 'vlm'
    assert tethered.state() == 'active'
