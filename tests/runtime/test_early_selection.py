"""Positions without logits are left out as soon as they may be, and not before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from .conftest import LAYERS, TinyModel

onnx = pytest.importorskip('onnx', reason='needs the extra [export]')
helper, numpy_helper = onnx.helper, onnx.numpy_helper

from unifiedmllm_ros.runtime.early_selection import select_early  # noqa: E402

ROWS = [3, 1]
SELECTION = [
    helper.make_node('Transpose', ['last'], ['turned'], perm=[1, 0, 2]),
    helper.make_node('Unsqueeze', ['rows', 'end'], ['index']),
    helper.make_node('GatherND', ['turned', 'index'], ['chosen']),
    helper.make_node('Transpose', ['chosen'], ['selected'], perm=[1, 0, 2]),
    helper.make_node('Identity', ['selected'], ['y']),
]


def graph(nodes: Sequence[Any], outputs: Sequence[str] = ()) -> Any:
    """x (1, 4, 8), by nodes, to `last`, of which `rows` become y; other outputs besides."""
    rng = np.random.default_rng(0)
    constants = {
        'w': rng.random((8, 8), np.float32),
        'two': np.float32(2),
        'end': np.array([-1]),
        'rows_axis': np.array([1]),
    }
    made = helper.make_graph(
        [*nodes, *SELECTION],
        'test',
        [
            helper.make_tensor_value_info('x', onnx.TensorProto.FLOAT, [1, 4, 8]),
            helper.make_tensor_value_info('rows', onnx.TensorProto.INT64, [2]),
        ],
        [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in ('y', *outputs)
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid('', 20)], ir_version=10)


def run(model: Any) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=['CPUExecutionProvider']
    )
    x = np.random.default_rng(1).random((1, 4, 8), np.float32)
    return [np.asarray(y) for y in session.run(None, {'x': x, 'rows': np.array(ROWS)})]


def order(model: Any) -> list[str]:
    """Operators, without the last one's name for the result."""
    return [node.op_type for node in model.graph.node if node.op_type != 'Unsqueeze'][:-1]


FEED_FORWARD = [
    helper.make_node('MatMul', ['start', 'w'], ['wide']),
    helper.make_node('Sigmoid', ['wide'], ['gate']),
    helper.make_node('Mul', ['wide', 'gate'], ['active']),
    helper.make_node('Softmax', ['active'], ['shares'], axis=-1),
    helper.make_node('ReduceMean', ['shares', 'end'], ['mean'], keepdims=1),
    helper.make_node('Add', ['start', 'mean'], ['last']),
]


def test_all_that_takes_each_position_by_itself_comes_behind_the_selection() -> None:
    before = helper.make_node('CumSum', ['x', 'rows_axis_of'], ['start'])
    model = graph([before, *FEED_FORWARD])
    model.graph.initializer.append(numpy_helper.from_array(np.array(1), 'rows_axis_of'))
    expected = run(model)
    select_early(model.graph)
    kinds = ['MatMul', 'Sigmoid', 'Mul', 'Softmax', 'ReduceMean', 'Add']
    assert order(model) == ['CumSum', 'Gather', *kinds]
    assert np.allclose(run(model)[0], expected[0], rtol=1e-6)
    assert run(model)[0].shape == (1, len(ROWS), 8)


def test_what_others_read_is_computed_for_all() -> None:
    nodes = [
        helper.make_node('Mul', ['x', 'two'], ['start']),
        *FEED_FORWARD,
        helper.make_node('Identity', ['wide'], ['other']),
    ]
    model = graph(nodes, ['other'])
    expected = run(model)
    select_early(model.graph)
    assert order(model)[:5] == ['Mul', 'Gather', 'MatMul', 'Gather', 'Sigmoid']
    for found, wanted in zip(run(model), expected, strict=True):
        assert np.allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    'node',
    [
        helper.make_node('Softmax', ['x'], ['last'], axis=1),
        helper.make_node('Concat', ['x', 'x'], ['last'], axis=1),
        helper.make_node('MatMul', ['square', 'x'], ['last']),
        helper.make_node('Mul', ['x', 'two'], ['last']),
    ],
    ids=['softmax', 'more positions', 'positions mixed', 'an input of the graph'],
)
def test_operators_that_mix_positions_or_cannot_be_moved_stay(node: Any) -> None:
    model = graph([node])
    square = np.random.default_rng(2).random((4, 4), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(square, 'square'))
    expected, before = run(model), order(model)
    select_early(model.graph)
    assert order(model) == before
    assert np.array_equal(run(model)[0], expected[0])


def test_a_mean_over_positions_is_taken_over_all() -> None:
    nodes = [
        helper.make_node('CumSum', ['x', 'row_axis'], ['start']),
        helper.make_node('ReduceMean', ['start', 'rows_axis'], ['mean'], keepdims=1),
        helper.make_node('Sub', ['start', 'mean'], ['last']),
    ]
    model = graph(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.array(1), 'row_axis'))
    expected = run(model)
    # Its result has no positions to select, so that nothing can be moved.
    select_early(model.graph)
    assert order(model)[:3] == ['CumSum', 'ReduceMean', 'Sub']
    assert np.allclose(run(model)[0], expected[0], rtol=1e-6)


def test_a_graph_that_selects_in_another_way_stays() -> None:
    model = graph([helper.make_node('Mul', ['x', 'two'], ['last'])])
    before = order(model)
    select_early(model.graph, rows='others')
    assert order(model) == before


def test_the_last_feed_forward_of_a_decoder_is_behind_the_selection(tiny: TinyModel) -> None:
    nodes = onnx.load(tiny.folder / 'onnx' / 'decoder.onnx').graph.node
    selections = [i for i, node in enumerate(nodes) if 'rows' in node.input]
    gates = [i for i, node in enumerate(nodes) if node.op_type == 'Sigmoid']
    assert len(selections) == 2, 'of what attention gives, and of what it is added to'
    assert len(gates) == LAYERS
    assert gates[-2] < min(selections) < max(selections) < gates[-1]
