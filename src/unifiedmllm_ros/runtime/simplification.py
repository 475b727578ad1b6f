"""Rewrites decoder graphs so that engines recognise what they compute; only standard operators.

A small decoder spends as long on starting operators as on its products. The exporter writes a
root's reciprocal where ONNX Runtime looks for a division to make one operator of an RMS norm, and
four operators for the half turn of rotary embeddings, which is a product with a constant; and
products of the same input with narrow matrices, such as those of routers, are one product. The
numbers stay the same up to rounding.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, Final

import numpy as np

from unifiedmllm_ros.runtime.early_selection import select_early
from unifiedmllm_ros.runtime.onnx_files import drop_unused, makers_of, products
from unifiedmllm_ros.runtime.rotations import Heads, fuse_rotations

HALF_TURN: Final = 'half_turn'
"""Name of the matrix that turns rotary embeddings."""
NARROW: Final = 256
"""Columns up to which starting a product takes longer than copying its part of a common one."""
_TYPES: Final = {'fp32': np.float32, 'fp16': np.float16}


def simplify(
    model: Any,
    arithmetic: str,
    head_width: int,
    merge: bool = False,
    rotating: Heads | None = None,
) -> None:
    """Rewrite an ONNX model in place.

    arithmetic: what it computes in, 'fp32', 'fp16' or 'bf16'. head_width: of an attention head.
    merge: make one product of narrow ones; then matrices are no longer those of the model.
    rotating: heads, where the engine has the operator RotaryEmbedding.
    """
    _divide_by_roots(model.graph)
    if arithmetic in _TYPES:  # NumPy knows no other
        _turn_by_products(model.graph, _TYPES[arithmetic], head_width // 2)
        if rotating:
            fuse_rotations(model.graph, HALF_TURN, head_width // 2, rotating)
        if merge:
            _add_within_products(model.graph)
            _merge_products(model.graph)
    _drop_unread(model.graph)  # or what nobody reads would seem to need all positions
    select_early(model.graph)
    _drop_unread(model.graph)
    drop_unused(model)


def _divide_by_roots(graph: Any) -> None:
    """x * (1 / sqrt(y)) -> x / sqrt(y)."""
    makers = makers_of(graph)
    for node in graph.node:
        if node.op_type != 'Mul':
            continue
        for place, name in enumerate(node.input):
            inverse = makers.get(name)
            if inverse is None or inverse.op_type != 'Reciprocal':
                continue
            root = makers.get(inverse.input[0])
            if root is not None and root.op_type == 'Sqrt':
                node.op_type = 'Div'
                node.input[:] = [node.input[1 - place], root.output[0]]
                break


def _turn_by_products(graph: Any, dtype: Any, half: int) -> None:
    """concat(-x[..., half:], x[..., :half]) -> x @ turn, for x of width 2 half."""
    from onnx import helper, numpy_helper

    makers, constants = makers_of(graph), _constants(graph)
    turn = np.zeros((2 * half, 2 * half), dtype)
    turn[np.arange(half) + half, np.arange(half)] = -1
    turn[np.arange(half), np.arange(half) + half] = 1
    used = False
    for place, node in enumerate(list(graph.node)):
        source = _half_turn(node, makers, constants, half)
        if source is not None:
            used = True
            name = node.name or f'{HALF_TURN}_{place}'
            made = helper.make_node('MatMul', [source, HALF_TURN], [node.output[0]], name=name)
            graph.node[place].CopyFrom(made)
    if used:
        graph.initializer.append(numpy_helper.from_array(turn, HALF_TURN))


def _merge_products(graph: Any) -> None:
    """x @ a, x @ b -> split(x @ [a b]), for matrices of at most NARROW columns."""
    from onnx import helper, numpy_helper

    alike: dict[str, list[tuple[Any, np.ndarray]]] = defaultdict(list)
    for node, tensor in products(graph).values():
        values = numpy_helper.to_array(tensor)
        values = values if node.input[1] == tensor.name else values.T
        if values.ndim == 2 and values.shape[1] <= NARROW:
            alike[node.input[0]].append((node, values))
    for source, several in alike.items():
        if len(several) < 2:
            continue
        nodes, parts = zip(*several, strict=True)
        name = f'{nodes[0].output[0]}_merged'
        widths = np.asarray([part.shape[1] for part in parts])
        for values, suffix in ((np.concatenate(parts, axis=1), 'weight'), (widths, 'widths')):
            graph.initializer.append(numpy_helper.from_array(values, f'{name}_{suffix}'))
        made = (
            helper.make_node('MatMul', [source, f'{name}_weight'], [name], name=name),
            helper.make_node(
                'Split',
                [name, f'{name}_widths'],
                [node.output[0] for node in nodes],
                name=f'{name}_split',
                axis=-1,
            ),
        )
        place = list(graph.node).index(nodes[0])
        for node in nodes:
            graph.node.remove(node)
        for node in reversed(made):
            graph.node.insert(place, node)


def _add_within_products(graph: Any) -> None:
    """x @ a + y @ b -> [x y] @ [a; b], where the sum has more columns than x.

    The adding is then done while multiplying, for the price of copying x.
    """
    from onnx import helper, numpy_helper

    factors = {
        node.output[0]: (node, values if node.input[1] == tensor.name else values.T)
        for node, tensor in products(graph).values()
        if (values := numpy_helper.to_array(tensor)).ndim == 2
    }
    readers = Counter(name for node in graph.node for name in node.input)
    for node in [node for node in graph.node if node.op_type == 'Add']:
        pair = [factors.get(name) for name in node.input]
        if None in pair or any(readers[name] > 1 for name in node.input):
            continue
        made, matrices = zip(*pair, strict=True)
        if matrices[0].shape[1] <= matrices[0].shape[0]:
            continue
        name = f'{node.output[0]}_joint'
        joined = numpy_helper.from_array(np.concatenate(matrices), f'{name}_weight')
        graph.initializer.append(joined)
        both = helper.make_node('Concat', [m.input[0] for m in made], [name], name=name, axis=-1)
        place = list(graph.node).index(node)
        node.op_type = 'MatMul'
        node.input[:] = [name, joined.name]
        graph.node.insert(place, both)


def _half_turn(
    node: Any, makers: dict[str, Any], constants: dict[str, np.ndarray], half: int
) -> str | None:
    """Return what a Concat turns, None for any other node."""
    if node.op_type != 'Concat' or len(node.input) != 2:
        return None
    negative, first = (makers.get(name) for name in node.input)
    if negative is None or negative.op_type != 'Neg' or first is None:
        return None
    second = makers.get(negative.input[0])
    if second is None or first.op_type != 'Slice' or second.op_type != 'Slice':
        return None
    if first.input[0] != second.input[0]:
        return None
    low, high = _bounds(first, constants), _bounds(second, constants)
    if low != (0, half) or high is None or high[0] != half or high[1] < 2 * half:
        return None
    return str(first.input[0])


def _bounds(node: Any, constants: dict[str, np.ndarray]) -> tuple[int, int] | None:
    """Return start and end of a slice of the last of four axes, None for any other."""
    values = [constants.get(name) for name in node.input[1:5]]
    if any(value is None or value.size != 1 for value in values):
        return None
    start, end, axis, step = (int(value.reshape(-1)[0]) for value in values if value is not None)
    return (start, end) if axis in (3, -1) and step == 1 else None


def _constants(graph: Any) -> dict[str, np.ndarray]:
    from onnx import numpy_helper

    return {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if len(tensor.dims) < 2
    }


def _drop_unread(graph: Any) -> None:
    """Remove nodes whose outputs nobody reads any more."""
    wanted = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if any(name in wanted for name in node.output):
            wanted.update(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
