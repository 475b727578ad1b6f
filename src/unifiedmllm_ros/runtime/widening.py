"""Integer weights that are widened to float32 when a graph is loaded.

A small decoder fits the processor's caches: it gains nothing from products of integers, which
round the activations too, and loses answers by them. Its weights are stored with 4 or 8 bits, and
standard operators make them whole again, which ONNX Runtime does once, at the start.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def widen(model: Any) -> None:
    """Replace each MatMulNBits by a MatMul with the weight that it stands for, in place.

    Those whose last block is not full stay.
    """
    from onnx import numpy_helper

    graph = model.graph
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    for node in [node for node in graph.node if node.op_type == 'MatMulNBits']:
        facts = {attribute.name: attribute.i for attribute in node.attribute}
        blocks, rest = divmod(facts['K'], facts['block_size'])
        if rest:
            continue
        values, scales, zeros = (numpy_helper.to_array(arrays[name]) for name in node.input[1:4])
        shape = (facts['N'], blocks, 1)
        if facts['bits'] == 4:
            zeros = _halves(zeros.reshape(facts['N'], -1))[:, :blocks]
        parts = values, scales.reshape(shape), zeros.reshape(shape)
        _replace(graph, node, parts, (facts['N'], facts['K']), facts['bits'])
    if not any(node.domain == 'com.microsoft' for node in graph.node):
        kept = [entry for entry in model.opset_import if entry.domain != 'com.microsoft']
        del model.opset_import[:]
        model.opset_import.extend(kept)


def _halves(packed: np.ndarray) -> np.ndarray:
    """Unpack halves of bytes, the low one first: (rows, n) -> (rows, 2 n)."""
    return np.stack((packed & 15, packed >> 4), axis=-1).reshape(len(packed), -1)


def _replace(
    graph: Any, node: Any, parts: tuple[np.ndarray, ...], shape: tuple[int, int], bits: int
) -> None:
    from onnx import TensorProto, helper, numpy_helper

    name = node.name
    values, scales, zeros = parts
    stored = {'levels': values, 'scales': scales, 'zeros': zeros, 'shape': np.array(shape)}
    if bits == 4:
        stored |= {
            'low': np.array(15, np.uint8),
            'shift': np.array(4, np.uint8),
            'axis': np.array([-1]),
            'blocks': np.array([*values.shape[:2], 2 * values.shape[2]]),
        }
    for part, array in stored.items():
        graph.initializer.append(numpy_helper.from_array(array, f'{name}_{part}'))
    made: list[Any] = []

    def add(kind: str, inputs: list[str], out: str, **attributes: Any) -> str:
        made.append(
            helper.make_node(
                kind, [f'{name}_{i}' for i in inputs], [f'{name}_{out}'], f'{name}_{out}',
                **attributes,
            )
        )  # fmt: skip
        return out

    levels = 'levels'
    if bits == 4:
        low = add('BitwiseAnd', ['levels', 'low'], 'even')
        high = add('BitShift', ['levels', 'shift'], 'odd', direction='RIGHT')
        pair = [add('Unsqueeze', [half, 'axis'], f'{half}_apart') for half in (low, high)]
        levels = add('Reshape', [add('Concat', pair, 'pairs', axis=-1), 'blocks'], 'whole')
    float_levels = add('Cast', [levels], 'float', to=TensorProto.FLOAT)
    float_zeros = add('Cast', ['zeros'], 'zero', to=TensorProto.FLOAT)
    centred = add('Sub', [float_levels, float_zeros], 'centred')
    rows = add('Reshape', [add('Mul', [centred, 'scales'], 'scaled'), 'shape'], 'rows')
    weight = add('Transpose', [rows], 'weight', perm=[1, 0])
    product = helper.make_node('MatMul', [node.input[0], f'{name}_{weight}'], node.output, name)
    place = next(i for i, other in enumerate(graph.node) if other.name == name)
    graph.node[place].CopyFrom(product)
    for part in reversed(made):
        graph.node.insert(place, part)
