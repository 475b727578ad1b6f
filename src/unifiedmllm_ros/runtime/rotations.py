"""Rotary embeddings as the operator that ONNX has for them.

What the exporter writes for queries and keys, x cos + turned(x) sin, is four operators that each
read and write all heads. RotaryEmbedding is one, and takes them before they are transposed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from unifiedmllm_ros.runtime.onnx_files import makers_of


@dataclass(frozen=True)
class Heads:
    """How many heads queries have, and how many keys and values."""

    queries: int
    keys: int


@dataclass(frozen=True)
class _Rotation:
    """x cos + turned(x) sin, for x (1, heads, T, width); cos and sin (1, T, width) are two equal
    halves. replaced: outputs of the nodes that compute it, the last one's last."""

    source: str
    cos: str
    sin: str
    replaced: tuple[str, ...]

    @property
    def output(self) -> str:
        return self.replaced[-1]


def fuse_rotations(graph: Any, turn: str, half: int, heads: Heads) -> None:
    """Make one operator of each rotation, in place.

    turn: name of the matrix that makes half turns. half: of a head's width.
    """
    makers = makers_of(graph)
    found = [r for node in graph.node if (r := _rotation(node, makers, turn)) is not None]
    if not found:
        return
    readers = Counter(name for node in graph.node for name in node.input)
    order = {name: place for place, node in enumerate(graph.node) for name in node.output}
    keys = {node.input[1] for node in graph.node if node.op_type == 'TensorScatter'}
    before: dict[str, Any] = {}
    for rotation in found:
        count = heads.keys if rotation.output in keys else heads.queries
        place, node = _fused(rotation, makers, readers, order, count)
        before[place] = node
    gone = {name for rotation in found for name in rotation.replaced}
    angles = {name for rotation in found for name in (rotation.cos, rotation.sin)}
    _rewrite(graph, before, gone, angles, half)


def _rotation(node: Any, makers: dict[str, Any], turn: str) -> _Rotation | None:
    """Return what an Add computes where it is a rotation."""
    if node.op_type != 'Add':
        return None
    products = [
        maker
        for name in node.input
        if (maker := makers.get(name)) is not None and maker.op_type == 'Mul'
    ]
    if len(products) != 2:
        return None
    for straight, turned in (products, products[::-1]):
        half_turn = makers.get(turned.input[0])
        if half_turn is None or turn not in half_turn.input[1:]:
            continue
        source = half_turn.input[0]
        angles = [
            maker.input[0]
            for product in (straight, turned)
            if (maker := makers.get(product.input[1])) is not None
            and maker.op_type == 'Unsqueeze'
            and maker.input[0] in makers
        ]
        if straight.input[0] == source and source in makers and len(angles) == 2:
            parts = (half_turn, straight, turned, node)
            return _Rotation(source, angles[0], angles[1], tuple(p.output[0] for p in parts))
    return None


def _fused(
    rotation: _Rotation,
    makers: dict[str, Any],
    readers: Counter[str],
    order: dict[str, int],
    heads: int,
) -> tuple[str, Any]:
    """Return a node, and the output of the one that it comes before.

    Where x is (1, T, heads * width) reshaped and transposed, and nothing else, it is rotated as
    it was before that, if the angles are there by then.
    """
    from onnx import helper

    angles = [_half(rotation.cos), _half(rotation.sin)]
    transpose, out = makers[rotation.source], rotation.output
    reshape = makers.get(transpose.input[0])
    if (
        transpose.op_type == 'Transpose'
        and readers[rotation.source] == 2
        and reshape is not None
        and reshape.op_type == 'Reshape'
        and readers[reshape.output[0]] == 1
        and max(order[rotation.cos], order[rotation.sin]) < order[reshape.output[0]]
    ):
        flat = f'{out}_flat'
        inputs = [reshape.input[0], *angles]
        reshape.input[0], transpose.output[0] = flat, out
        node = helper.make_node('RotaryEmbedding', inputs, [flat], flat, num_heads=heads)
        return reshape.output[0], node
    return out, helper.make_node('RotaryEmbedding', [rotation.source, *angles], [out], out)


def _half(angles: str) -> str:
    return f'{angles}_half'


def _rewrite(
    graph: Any, before: dict[str, Any], gone: set[str], angles: set[str], half: int
) -> None:
    from onnx import helper, numpy_helper

    bounds = {'rotation_start': [0], 'rotation_end': [half], 'rotation_axis': [2]}
    for name, value in bounds.items():
        graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    nodes: list[Any] = []
    for node in graph.node:
        output = node.output[0]
        if output in before:
            nodes.append(before[output])
        moved = node.op_type == 'Transpose' and output in gone
        if output not in gone or moved:
            nodes.append(node)
        for name in angles.intersection(node.output):
            nodes.append(helper.make_node('Slice', [name, *bounds], [_half(name)], _half(name)))
    del graph.node[:]
    graph.node.extend(nodes)
