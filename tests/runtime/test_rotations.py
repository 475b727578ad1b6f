"""Rotary embeddings as one operator give the numbers of the four that it replaces."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from .conftest import LAYERS, TinyModel

onnx = pytest.importorskip('onnx', reason='needs the extra [export]')
helper, numpy_helper = onnx.helper, onnx.numpy_helper

from unifiedmllm_ros.runtime.rotations import Heads, fuse_rotations  # noqa: E402

WIDTH, HEADS, POSITIONS = 8, 3, 5
TURN = 'turn'


def graph(between: list[Any], source: str, swap: bool = False) -> Any:
    """x (1, T, heads * width) in heads, then by nodes to `source`, rotated."""
    half = WIDTH // 2
    turn = np.zeros((WIDTH, WIDTH), np.float32)
    turn[np.arange(half) + half, np.arange(half)] = -1
    turn[np.arange(half), np.arange(half) + half] = 1
    constants = {
        TURN: turn,
        'shape': np.array([1, -1, HEADS, WIDTH]),
        'one': np.array([1]),
        'two': np.float32(2),
    }
    nodes = [
        helper.make_node('Concat', ['angles', 'angles'], ['both'], axis=-1),
        helper.make_node('Cos', ['both'], ['cos']),
        helper.make_node('Sin', ['both'], ['sin']),
        helper.make_node('Reshape', ['x', 'shape'], ['heads']),
        *between,
        helper.make_node('Unsqueeze', ['cos', 'one'], ['cos_all']),
        helper.make_node('Unsqueeze', ['sin', 'one'], ['sin_all']),
        helper.make_node('Mul', [source, 'cos_all'], ['straight']),
        helper.make_node('MatMul', [source, TURN], ['turned']),
        helper.make_node('Mul', ['turned', 'sin_all'], ['across']),
        helper.make_node('Add', ['across', 'straight'] if swap else ['straight', 'across'], ['y']),
    ]
    made = helper.make_graph(
        nodes,
        'test',
        [
            helper.make_tensor_value_info('x', onnx.TensorProto.FLOAT, [1, 'T', HEADS * WIDTH]),
            helper.make_tensor_value_info('angles', onnx.TensorProto.FLOAT, [1, 'T', half]),
        ],
        [helper.make_tensor_value_info('y', onnx.TensorProto.FLOAT, [1, HEADS, 'T', WIDTH])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid('', 24)], ir_version=11)


def run(model: Any) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=['CPUExecutionProvider']
    )
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, POSITIONS, HEADS * WIDTH), np.float32)
    angles = rng.uniform(0, 6, (1, POSITIONS, WIDTH // 2)).astype(np.float32)
    return np.asarray(session.run(None, {'x': x, 'angles': angles})[0])


def fused(model: Any) -> Counter[str]:
    fuse_rotations(model.graph, TURN, WIDTH // 2, Heads(HEADS, HEADS))
    onnx.checker.check_model(model)
    return Counter(node.op_type for node in model.graph.node)


TRANSPOSE = helper.make_node('Transpose', ['heads'], ['apart'], perm=[0, 2, 1, 3])


@pytest.mark.parametrize('swap', [False, True])
def test_heads_are_rotated_before_they_are_transposed(swap: bool) -> None:
    model = graph([TRANSPOSE], 'apart', swap)
    expected = run(model)
    kinds = fused(model)
    assert (kinds['RotaryEmbedding'], kinds['Transpose'], kinds['Reshape']) == (1, 1, 1)
    assert (kinds['Mul'], kinds['MatMul'], kinds['Add']) == (0, 0, 0)
    (node,) = (node for node in model.graph.node if node.op_type == 'RotaryEmbedding')
    assert node.input[0] == 'x'
    assert np.allclose(run(model), expected, atol=1e-5)


def test_heads_that_are_changed_before_are_rotated_where_they_are() -> None:
    model = graph(
        [
            helper.make_node('Mul', ['heads', 'two'], ['more']),
            helper.make_node('Transpose', ['more'], ['apart'], perm=[0, 2, 1, 3]),
        ],
        'apart',
    )
    expected = run(model)
    kinds = fused(model)
    assert (kinds['RotaryEmbedding'], kinds['Mul'], kinds['MatMul']) == (1, 1, 0)
    assert np.allclose(run(model), expected, atol=1e-5)


def test_angles_that_come_after_the_heads_do_no_harm() -> None:
    model = graph([TRANSPOSE], 'apart')
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes[3:5], *nodes[:3], *nodes[5:]])
    expected = run(model)
    assert fused(model)['RotaryEmbedding'] == 1
    assert np.allclose(run(model), expected, atol=1e-5)


def test_what_is_no_rotation_stays() -> None:
    model = graph([TRANSPOSE], 'apart')
    next(node for node in model.graph.node if node.op_type == 'MatMul').input[0] = 'cos_all'
    assert fused(model)['RotaryEmbedding'] == 0


def test_a_decoder_has_one_for_the_queries_and_one_for_the_keys_of_a_layer(
    tiny: TinyModel,
) -> None:
    nodes = onnx.load(tiny.folder / 'onnx' / 'decoder.onnx').graph.node
    assert sum(node.op_type == 'RotaryEmbedding' for node in nodes) == 2 * LAYERS
