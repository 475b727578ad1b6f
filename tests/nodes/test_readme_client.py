"""The client that README.md shows, run word for word beside a node."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rclpy.parameter import Parameter

from tests.nodes.graph import Graph
from tests.nodes.scripted import MUG, ScriptedModel, scripted_perceiver
from unifiedmllm_ros.locations import share
from unifiedmllm_ros.nodes.configuration import PerceptionParameters
from unifiedmllm_ros.nodes.perception_node import load
from unifiedmllm_ros.nodes.recording import Recording
from unifiedmllm_ros.perception import Perceiver

README = Path(__file__).resolve().parents[2] / 'README.md'
SECONDS = 60.0
HEARD = ('detections', 'masks')


def client_of_the_readme() -> str:
    blocks = re.findall(r'```python\n(.*?)```', README.read_text(encoding='utf-8'), re.DOTALL)
    (client,) = (block for block in blocks if 'import rclpy' in block)
    return client


def scripted(settings: PerceptionParameters) -> Perceiver:
    return scripted_perceiver(ScriptedModel({'segment the red mug': MUG}))


@pytest.fixture(params=[scripted, load], ids=['scripted', 'shipped'])
def graph(request: pytest.FixtureRequest, ros: None) -> Iterator[Graph]:
    compressed = Parameter('input', value='compressed')
    graph = Graph(ScriptedModel(), compressed, factory=request.param)
    yield graph
    graph.close()


class Printed:
    """What a program prints, while it runs."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._program = program
        threading.Thread(target=self._read, daemon=True).start()

    def wait(self, pattern: str) -> None:
        with self._more:
            found = self._more.wait_for(
                lambda: any(re.fullmatch(pattern, line) for line in self.lines), SECONDS
            )
        assert found, f'{pattern!r} is not among {self.lines}'

    def _read(self) -> None:
        assert self._program.stdout is not None
        for line in self._program.stdout:
            with self._more:
                self.lines.append(line.rstrip('\n'))
                self._more.notify_all()


def test_the_readmes_client_gets_boxes_and_masks(graph: Graph, tmp_path: Path) -> None:
    graph.activate()
    script = tmp_path / 'client.py'
    script.write_text(client_of_the_readme())
    program = subprocess.Popen(
        [sys.executable, '-u', str(script), '--ros-args', '-r', '__ns:=/robot'],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ,
    )
    try:
        printed = Printed(program)
        graph.until(lambda: graph.node.instruction == 'segment the red mug')
        # Beside the graph's own client.
        graph.until(lambda: all(graph.client.count_subscribers(t) == 2 for t in HEARD))
        graph.compressed.publish(Recording(share('samples/tabletop')).frames[0].messages['image'])
        printed.wait(r'red mug [01]\.\d\d at \d+, \d+: \d+x\d+')
        printed.wait('masks 640x480')
    finally:
        # A killed client would haunt the graph for twenty seconds more.
        program.send_signal(signal.SIGINT)
        program.wait(SECONDS)
