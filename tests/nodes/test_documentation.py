"""The documentation tells of the nodes as they are."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.nodes.expert_graph import ExpertGraph
from tests.nodes.graph import Graph
from unifiedmllm_ros.nodes.configuration import PerceptionParameters
from unifiedmllm_ros.nodes.documentation import TABLES, marked_tables, with_tables
from unifiedmllm_ros.nodes.interface import (
    EXPERT_ACTIONS,
    EXPERT_SERVICES,
    EXPERT_TOPICS,
    PERCEPTION_ACTIONS,
    PERCEPTION_TOPICS,
    TABLETOP_CAMERA_TOPICS,
)
from unifiedmllm_ros.nodes.tabletop_camera_node import TabletopCameraNode

DIAGNOSTICS = 'diagnostic_msgs/msg/DiagnosticArray'
ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    'README.md': {'topics', 'actions', 'parameters'},
    'docs/perception_node.md': {'topics', 'actions', 'parameters'},
    'docs/expert_node.md': {
        'expert-actions',
        'expert-parameters',
        'expert-services',
        'expert-topics',
    },
    'docs/tabletop_camera_node.md': {'camera-topics', 'camera-parameters'},
}
BUILT_IN = {'/parameter_events', '/rosout', '/clock'}


@pytest.mark.parametrize('page', PAGES)
def test_tables_are_up_to_date(page: str) -> None:
    text = (ROOT / page).read_text(encoding='utf-8')
    assert marked_tables(text) >= PAGES[page]
    assert with_tables(text) == text, 'run scripts/docs_tables'


def test_every_parameter_is_in_the_table() -> None:
    table = TABLES['parameters']()
    assert all(f'| `{name}` |' in table for name in PerceptionParameters.model_fields)
    assert "| `input` | string | `'raw'` | `raw`, `compressed` | yes |" in table


def test_marks_of_others_are_left_alone() -> None:
    text = '<!-- begin: others -->\nx\n<!-- end: others -->\n'
    own = '<!-- begin: topics -->\nold\n<!-- end: topics -->\n'
    assert with_tables(text + own) == text + own.replace('old\n', TABLES['topics']())
    assert marked_tables(text + own) == {'topics'}


def full(name: str, namespace: str) -> str:
    return name if name.startswith('/') else f'{namespace}/{name}'


def own(names_and_types: list, name: str) -> set:
    pairs = {(topic, kind) for topic, kinds in names_and_types for kind in kinds}
    return {
        pair
        for pair in pairs
        if pair[0] not in BUILT_IN and '/_' not in pair[0] and f'/{name}/' not in pair[0]
    }


def test_the_tables_list_what_perception_node_offers(graph: Graph) -> None:
    wanted = {(full(t.name, '/robot'), t.kind, t.direction) for t in PERCEPTION_TOPICS}
    found = set()
    graph.activate()
    for image_input in ('raw', 'compressed'):
        graph.set(input=image_input)
        node = graph.node
        of = (node.get_name(), node.get_namespace())
        # The graph is told by discovery, a moment after a publisher is made.
        deadline = time.monotonic() + 10
        while True:
            heard = own(node.get_subscriber_names_and_types_by_node(*of), node.get_name())
            told = own(node.get_publisher_names_and_types_by_node(*of), node.get_name())
            found |= {(*pair, 'in') for pair in heard} | {(*pair, 'out') for pair in told}
            if ('/diagnostics', DIAGNOSTICS, 'out') in found or time.monotonic() > deadline:
                break
            time.sleep(0.02)
    assert found == wanted
    assert graph.asking.wait_for_server(5)
    assert [action.name for action in PERCEPTION_ACTIONS] == ['ask']


def test_the_tables_list_what_expert_node_offers(ros: None, tmp_path: Path) -> None:
    graph = ExpertGraph(tmp_path)
    try:
        # Whose server is found here has the type that the client was made with.
        assert graph.executing.wait_for_server(10)
        of = ('expert_node', '/robot')
        services = {
            (name, kind)
            for name, kinds in graph.node.get_service_names_and_types_by_node(*of)
            for kind in kinds
            if kind.startswith('unifiedmllm_ros/srv/')
        }
        told = own(graph.node.get_publisher_names_and_types_by_node(*of), 'expert_node')
    finally:
        graph.close()
    assert [action.name for action in EXPERT_ACTIONS] == ['execute_task']
    assert services == {(full(s.name, '/robot'), s.kind) for s in EXPERT_SERVICES}
    assert told == {(full(t.name, '/robot'), t.kind) for t in EXPERT_TOPICS}


def test_the_tables_list_what_the_camera_offers(ros: None) -> None:
    class Nothing:
        def frame(self, seconds: float) -> None:
            raise RuntimeError('not shown')

        def close(self) -> None:
            pass

    class Still(TabletopCameraNode):
        def _run(self) -> None:
            pass

    node = Still(lambda settings: Nothing(), namespace='table')
    told = own(node.get_publisher_names_and_types_by_node(node.get_name(), '/table'), 'x')
    node.destroy_node()
    assert told == {(full(t.name, '/table'), t.kind) for t in TABLETOP_CAMERA_TOPICS}
