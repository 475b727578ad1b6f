"""Positions without logits leave a decoder graph behind its last attention.

`transformers` selects the positions that give logits before the output layer. What lies between it
and the last attention takes each position by itself, and is computed for the selected ones alone
where the selection comes first. The numbers stay the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from unifiedmllm_ros.runtime.onnx_files import makers_of

_ELEMENTWISE: Final = frozenset(
    ('Add', 'Cast', 'Div', 'Erf', 'Gelu', 'Mul', 'Neg', 'Pow', 'Reciprocal', 'Relu', 'Sigmoid')
    + ('Sqrt', 'Sub', 'Tanh')
)
_WITHIN: Final = frozenset(('Concat', 'Softmax', 'Split'))
"""Operators of one axis, which must be the last of three."""


def select_early(graph: Any, rows: str = 'rows') -> None:
    """Move the selection of the positions `rows` forward, in place.

    Values are (1, positions, width) from the last attention on. A graph that selects in another
    way than x -> transpose -> GatherND -> transpose stays as it is.
    """
    from onnx import helper

    pattern = _selection(graph, rows)
    if pattern is None:
        return
    source, selected = pattern[0].input[0], pattern[-1].output[0]
    kept = [node for node in graph.node if not any(node is part for part in pattern)]
    constants = _constants(graph)
    outputs = [value.name for value in graph.output]
    alone = _alone(kept, source, constants, _axes(graph), outputs)
    if not alone:
        return
    made = {name for node in alone for name in node.output}
    given = {name for node in alone for name in node.input} - made - constants
    makers = makers_of(graph)
    if any(name not in makers or makers[name].op_type.startswith('Reduce') for name in given):
        return  # what has no positions cannot be selected from
    nodes: list[Any] = []
    for node in kept:
        inside = any(node is other for other in alone)
        for place, name in enumerate(node.input):
            if inside and name in given:
                node.input[place] = f'{name}_selected'
            elif name == selected:
                node.input[place] = source
        nodes.append(node)
        for name in given.intersection(node.output):
            nodes.append(helper.make_node('Gather', [name, rows], [f'{name}_selected'], axis=1))
    del graph.node[:]
    graph.node.extend(nodes)


def _selection(graph: Any, rows: str) -> list[Any] | None:
    """Return the nodes that select positions, the first and the last of them being one value's."""
    readers = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    makers = makers_of(graph)
    for node in graph.node:
        if node.op_type != 'GatherND' or len(readers[node.output[0]]) != 1:
            continue
        before, index = (makers.get(name) for name in node.input)
        (after,) = readers[node.output[0]]
        if before is None or index is None or rows not in index.input:
            continue
        if before.op_type == after.op_type == 'Transpose':
            return [before, node, after]
    return None


def _alone(
    nodes: Sequence[Any],
    source: str,
    constants: set[str],
    axes: Mapping[str, int],
    outputs: Sequence[str],
) -> list[Any]:
    """Return the nodes that lead to `source` alone, and take each position by itself."""
    readers = Counter(name for node in nodes for name in node.input)
    readers.update((source, *outputs))  # the selection reads it
    inside = Counter((source,))
    found: list[Any] = []
    for node in reversed(nodes):
        led = sum(inside[name] for name in node.output)
        used = sum(readers[name] for name in node.output)
        if led and led == used and _takes_each(node, constants, axes):
            found.append(node)
            inside.update(node.input)
    return found[::-1]


def _takes_each(node: Any, constants: set[str], axes: Mapping[str, int]) -> bool:
    if node.op_type in _ELEMENTWISE:
        return True
    if node.op_type == 'MatMul':
        return node.input[1] in constants
    if node.op_type == 'ReduceMean':
        return len(node.input) > 1 and axes.get(node.input[1]) in (-1, 2)
    axis = next((attribute.i for attribute in node.attribute if attribute.name == 'axis'), None)
    return node.op_type in _WITHIN and axis in (-1, 2)


def _axes(graph: Any) -> dict[str, int]:
    """Return the constants that are a single axis."""
    from onnx import TensorProto, numpy_helper

    return {
        tensor.name: int(numpy_helper.to_array(tensor).reshape(-1)[0])
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.INT64 and list(tensor.dims) in ([], [1])
    }


def _constants(graph: Any) -> set[str]:
    """Return the names of values that depend on no input."""
    constants = {tensor.name for tensor in graph.initializer} | {''}
    for node in graph.node:
        if node.op_type != 'Shape' and constants.issuperset(node.input):
            constants.update(node.output)
    return constants
