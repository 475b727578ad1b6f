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

from unifiedmllm_ros.runtime.simplification import simplify  # noqa: E402


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
