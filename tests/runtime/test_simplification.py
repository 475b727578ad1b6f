"""Decoder graphs get simpler and give the same numbers; what only looks alike stays."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .conftest import LAYERS, TinyModel

onnx = pytest.importorskip('onnx', reason='needs the extra [export]')
WIDTH = 8
helper, numpy_helper = onnx.helper, onnx.numpy_helper

from unifiedmllm_ros.runtime.simplification import NARROW, simplify  # noqa: E402


def graph(nodes: list[Any], **constants: Any) -> Any:
    values = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 2, 3, 8])
        for name in ('x', 'y')
    ]
    arrays = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    made = helper.make_graph(nodes, 'test', values[:1], values[1:], arrays)
    return helper.make_model(made, opset_imports=[helper.make_opsetid('', 20)], ir_version=10)


def run(model: Any) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=['CPUExecutionProvider']
    )
    x = np.random.default_rng(0).uniform(0.5, 2, (1, 2, 3, 8)).astype(np.float32)
    return np.asarray(session.run(None, {'x': x})[0])


def turned(first: str = 'x', half: int = 4, axis: int = 3) -> Any:
    nodes = [
        helper.make_node('Slice', [first, 'zero', 'half', 'axis', 'one'], ['low']),
        helper.make_node('Slice', ['x', 'half', 'end', 'axis', 'one'], ['high']),
        helper.make_node('Neg', ['high'], ['minus']),
        helper.make_node('Concat', ['minus', 'low'], ['y'], axis=axis),
    ]
    if first != 'x':
        nodes.insert(0, helper.make_node('Abs', ['x'], [first]))
    numbers = {'zero': 0, 'half': half, 'end': 2**62, 'axis': axis, 'one': 1}
    return graph(nodes, **{name: [value] for name, value in numbers.items()})


def kinds(model: Any) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def test_a_half_turn_becomes_a_product() -> None:
    model = turned()
    expected = run(model)
    simplify(model, 'fp32', WIDTH)
    assert kinds(model) == {'MatMul': 1}
    assert np.array_equal(run(model), expected)


@pytest.mark.parametrize(
    'model',
    [turned(first='other'), turned(half=3), turned(axis=2, half=1)],
    ids=['two sources', 'not the middle', 'another axis'],
)
def test_what_is_no_half_turn_stays(model: Any) -> None:
    before = kinds(model)
    simplify(model, 'fp32', WIDTH)
    assert kinds(model) == before


def test_types_that_numpy_lacks_keep_their_turns() -> None:
    model = turned()
    simplify(model, 'bf16', WIDTH)
    assert kinds(model)['Concat'] == 1


@pytest.mark.parametrize('swap', [False, True])
def test_a_product_with_a_reciprocal_root_becomes_a_division(swap: bool) -> None:
    factors = ['inverse', 'x'] if swap else ['x', 'inverse']
    nodes = [
        helper.make_node('Sqrt', ['x'], ['root']),
        helper.make_node('Reciprocal', ['root'], ['inverse']),
        helper.make_node('Mul', factors, ['y']),
    ]
    model = graph(nodes)
    expected = run(model)
    simplify(model, 'fp32', WIDTH)
    assert kinds(model) == {'Sqrt': 1, 'Div': 1}
    assert np.allclose(run(model), expected, rtol=1e-6)


def test_onnxruntime_finds_the_norms_of_an_exported_decoder(
    tiny: TinyModel, tmp_path: Path
) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / 'optimised.onnx')
    options.log_severity_level = 3
    onnxruntime.InferenceSession(
        str(tiny.folder / 'onnx' / 'decoder.onnx'), options, providers=['CPUExecutionProvider']
    )
    found = kinds(onnx.load(tmp_path / 'optimised.onnx'))
    assert found['SimplifiedLayerNormalization'] == 2 * LAYERS + 1
    assert (found['Reciprocal'], found['Neg']) == (0, 0)


def narrow(columns: int) -> Any:
    """y = (x @ a) * softmax(x @ b), with `columns` of each matrix."""
    nodes = [
        helper.make_node('MatMul', ['x', 'a'], ['first'], name='first'),
        helper.make_node('MatMul', ['x', 'b'], ['second'], name='second'),
        helper.make_node('Softmax', ['second'], ['shares'], axis=-1),
        helper.make_node('Mul', ['first', 'shares'], ['mixed']),
        helper.make_node('ReduceSum', ['mixed'], ['sum'], keepdims=1),
        helper.make_node('Add', ['x', 'sum'], ['y']),
    ]
    rng = np.random.default_rng(1)
    return graph(nodes, **{name: rng.random((8, columns), np.float32) for name in 'ab'})


def test_narrow_products_of_one_input_become_one_where_asked() -> None:
    model = narrow(5)
    expected = run(model)
    simplify(model, 'fp32', WIDTH)
    assert kinds(model)['MatMul'] == 2
    simplify(model, 'fp32', WIDTH, merge=True)
    assert (kinds(model)['MatMul'], kinds(model)['Split']) == (1, 1)
    assert len(model.graph.initializer) == 2, 'the parts are gone'
    assert np.allclose(run(model), expected, rtol=1e-5)


def test_wide_products_stay_apart() -> None:
    model = narrow(NARROW + 1)
    simplify(model, 'fp32', WIDTH, merge=True)
    assert kinds(model)['MatMul'] == 2


@pytest.mark.parametrize(('columns', 'joined'), [(12, True), (8, False)])
def test_sums_are_made_within_a_product_that_is_wider_than_its_input(
    columns: int, joined: bool
) -> None:
    nodes = [
        helper.make_node('Abs', ['x'], ['other']),
        helper.make_node('MatMul', ['x', 'a'], ['first'], name='first'),
        helper.make_node('MatMul', ['other', 'b'], ['second'], name='second'),
        helper.make_node('Add', ['first', 'second'], ['sum']),
        helper.make_node('ReduceSum', ['sum'], ['one'], keepdims=1),
        helper.make_node('Add', ['x', 'one'], ['y']),
    ]
    rng = np.random.default_rng(1)
    model = graph(nodes, **{name: rng.random((8, columns), np.float32) for name in 'ab'})
    expected = run(model)
    simplify(model, 'fp32', WIDTH, merge=True)
    assert kinds(model)['MatMul'] == (1 if joined else 2)
    assert np.allclose(run(model), expected, rtol=1e-5)


def test_a_product_that_others_read_too_is_not_joined() -> None:
    nodes = [
        helper.make_node('MatMul', ['x', 'a'], ['first'], name='first'),
        helper.make_node('Abs', ['x'], ['other']),
        helper.make_node('MatMul', ['other', 'b'], ['second'], name='second'),
        helper.make_node('Add', ['first', 'second'], ['sum']),
        helper.make_node('Add', ['sum', 'first'], ['more']),
        helper.make_node('ReduceSum', ['more'], ['one'], keepdims=1),
        helper.make_node('Add', ['x', 'one'], ['y']),
    ]
    rng = np.random.default_rng(1)
    model = graph(nodes, **{name: rng.random((8, 12), np.float32) for name in 'ab'})
    simplify(model, 'fp32', WIDTH, merge=True)
    assert kinds(model)['MatMul'] == 2
