"""Real nodes over real DDS, on a domain of this process's own."""

from __future__ import annotations

import os

# Before rclpy is first imported: domains 1 to 101 are safe on every system.
os.environ['ROS_DOMAIN_ID'] = str(os.getpid() % 100 + 1)
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'

from collections.abc import Iterator

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: source scripts/env')

import rclpy

from tests.nodes.graph import Graph
from tests.nodes.scripted import ScriptedModel


@pytest.fixture(scope='session')
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel()


@pytest.fixture
def graph(ros: None, model: ScriptedModel) -> Iterator[Graph]:
    graph = Graph(model)
    yield graph
    graph.close()
