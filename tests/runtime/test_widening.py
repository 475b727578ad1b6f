"""Integer weights that are widened at the start: the same numbers, and nothing left of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='needs the extra [export]')

from unifiedmllm_ros.runtime import quantisation  # noqa: E402
from unifiedmllm_ros.runtime.onnx_files import products  # noqa: E402
from unifiedmllm_ros.runtime.quantisation import matrices, quantise, uniform  # noqa: E402
from unifiedmllm_ros.runtime.simplification import HALF_TURN  # noqa: E402

ROWS, INSIDE, COLUMNS = 96, 64, 40
RNG = np.random.default_rng(0)
FIRST = RNG.normal(size=(ROWS, INSIDE)).astype(np.float32)
TABLE = RNG.normal(size=(COLUMNS, INSIDE)).astype(np.float32)  # transposed by the graph
TURN = np.eye(ROWS, dtype=np.float32)[::-1].copy()
VALUES = RNG.normal(size=(3, ROWS)).astype(np.float32)


def model() -> onnx.ModelProto:
    """x @ turn @ first @ table.T, and a look-up in the table."""
    helper = onnx.helper
    nodes = [
        helper.make_node('MatMul', ['x', HALF_TURN], ['turned'], 'turn'),
        helper.make_node('MatMul', ['turned', 'first_weight'], ['inside'], 'first'),
        helper.make_node('Transpose', ['table'], ['turned_table'], 'transpose', perm=[1, 0]),
        helper.make_node('MatMul', ['inside', 'turned_table'], ['logits'], 'head'),
        helper.make_node('Gather', ['table', 'ids'], ['words'], 'look_up'),
    ]
    weights = {HALF_TURN: TURN, 'first_weight': FIRST, 'table': TABLE, 'ids': np.array([1, 2])}
    initializers = [onnx.numpy_helper.from_array(v, name) for name, v in weights.items()]

    def value(name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    outputs = [value('logits', 3, COLUMNS), value('words', 2, INSIDE)]
    graph = helper.make_graph(nodes, 'graph', [value('x', 3, ROWS)], outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 24)])


def run(graph: onnx.ModelProto) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(graph.SerializeToString())
    logits: np.ndarray = session.run(['logits'], {'x': VALUES})[0]
    return logits


def test_what_turns_rotary_embeddings_is_no_matrix_to_quantise() -> None:
    assert matrices(model()) == {'first': ROWS * INSIDE, 'head': INSIDE * COLUMNS}
    assert uniform(model(), 4) == {'first': 4, 'head': 8}
    found = products(model().graph)
    assert (found['head'][1].name, found['first'][1].name) == ('table', 'first_weight')


@pytest.mark.parametrize('bits', [4, 8])
def test_widened_weights_are_those_of_integer_products(
    bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = {'first': bits, 'head': bits}
    widened = quantise(model(), levels, 'onnx')  # type: ignore[arg-type]
    assert {node.domain for node in widened.graph.node} == {''}
    monkeypatch.setattr(quantisation, 'SMALL', 0)
    monkeypatch.setattr(quantisation, '_INTEGER_PRODUCTS', 1)  # activations stay whole
    products_of_integers = quantise(model(), levels, 'onnx')  # type: ignore[arg-type]
    assert [n.op_type for n in products_of_integers.graph.node].count('MatMulNBits') == 2
    said, expected, whole = run(widened), run(products_of_integers), run(model())
    assert np.allclose(said, expected, atol=1e-3)
    assert 1e-3 < np.abs(said - whole).max() < {4: 60, 8: 4}[bits]


@pytest.mark.parametrize('bits', [4, 8])
def test_nothing_of_it_is_left_once_a_graph_is_loaded(bits: int, tmp_path: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / 'loaded.onnx')
    options.log_severity_level = 4
    levels = {'first': bits, 'head': bits}
    stored = quantise(model(), levels, 'onnx').SerializeToString()  # type: ignore[arg-type]
    onnxruntime.InferenceSession(stored, options)
    loaded = onnx.load(tmp_path / 'loaded.onnx')
    assert {node.op_type for node in loaded.graph.node} <= {'MatMul', 'Gather'}


def test_a_table_that_is_not_quantised_stays_one_with_the_output_layer() -> None:
    levels = {'first': 8, 'head': 16}
    kept = quantise(model(), levels, 'onnx')  # type: ignore[arg-type]
    floats = [t.name for t in kept.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    assert 'table' in floats
    assert 'turned_table' not in floats
