"""ONNX files as the export writes them: without traces, weights inside or beside the graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container
from pathlib import Path
from typing import Any, Final

EXTERNAL_ABOVE: Final = 2_000_000_000
"""Bytes of weights from which they lie in a file of their own: protobuf ends at 2 GiB."""
_SMALL_WEIGHT: Final = 4096


def save(model: Any, file: Path, external_above: int = EXTERNAL_ABOVE) -> tuple[Path, ...]:
    """Write a model; returns its files: the graph, and FILE.data where the weights are large."""
    import onnx

    data = file.with_name(file.name + '.data')
    data.unlink(missing_ok=True)  # onnx would append to it
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) <= external_above:
        onnx.save(model, file)
        return (file,)
    onnx.save(
        model,
        file,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=data.name,
        size_threshold=1024,
    )
    return file, data


def strip_traces(model: Any) -> None:
    """Drop the exporter's stack traces: they hold the paths of the machine that exported."""
    graph = model.graph
    for owner in (graph, *model.functions):
        for part in (*owner.node, *owner.value_info):
            del part.metadata_props[:]
            part.doc_string = ''
    for part in (model, graph, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]


def store_half(model: Any, lossy: bool = False) -> None:
    """Store large float32 weights as float16 with a cast after each.

    Without `lossy` only those whose values are float16 already. A table that is only looked up is
    cast after the look-up, so that it stays small in memory.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    readers = _readers(graph)
    widened = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or size(tensor) < _SMALL_WEIGHT:
            continue
        name = tensor.name
        whole = numpy_helper.to_array(tensor)
        values = whole.astype('float16')
        if not lossy and not (values == whole).all():
            continue
        tensor.CopyFrom(numpy_helper.from_array(values, f'{name}_half'))
        nodes = readers[name]
        if all(node.op_type == 'Gather' and node.input[0] == name for node in nodes):
            for node in nodes:
                node.input[0] = tensor.name
                _widen_output(graph, node)
        else:
            widened.append(helper.make_node('Cast', [tensor.name], [name], to=TensorProto.FLOAT))
    for node in reversed(widened):
        graph.node.insert(0, node)


def _widen_output(graph: Any, node: Any) -> None:
    from onnx import TensorProto, helper

    name = node.output[0]
    node.output[0] = f'{name}_half'
    cast = helper.make_node('Cast', [node.output[0]], [name], to=TensorProto.FLOAT)
    place = next(i for i, other in enumerate(graph.node) if other.output[:1] == node.output[:1])
    graph.node.insert(place + 1, cast)
    # The types that the exporter inferred would contradict the new ones.
    for value in [value for value in graph.value_info if value.name == name]:
        graph.value_info.remove(value)


def fold_transposes(model: Any, wanted: Container[str]) -> None:
    """Replace transposed weights by their transpose, which is what a quantiser looks for.

    wanted: names of the transposed ones. The others stay, and with them what an embedding table
    shares with the output layer.
    """
    from onnx import numpy_helper

    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in [node for node in graph.node if node.op_type == 'Transpose']:
        if node.input[0] not in weights or node.output[0] not in wanted:
            continue
        axes = list(node.attribute[0].ints) if node.attribute else None
        values = numpy_helper.to_array(weights[node.input[0]]).transpose(axes)
        graph.initializer.append(numpy_helper.from_array(values.copy(), node.output[0]))
        graph.node.remove(node)
    drop_unused(model)


def makers_of(graph: Any) -> dict[str, Any]:
    """Return the node that makes each value."""
    return {name: node for node in graph.node for name in node.output}


def products(graph: Any) -> dict[str, tuple[Any, Any]]:
    """Return {name: (node, weight)} of the MatMuls with a constant weight.

    The weight is (inputs, outputs), or (outputs, inputs) where the graph transposes it.
    """
    weights = {tensor.name: tensor for tensor in graph.initializer}
    transposed = {n.output[0]: n.input[0] for n in graph.node if n.op_type == 'Transpose'}
    found = {}
    for node in graph.node:
        if node.op_type == 'MatMul':
            tensor = weights.get(transposed.get(node.input[1], node.input[1]))
            if tensor is not None:
                found[node.name] = node, tensor
    return found


def drop_unused(model: Any) -> None:
    """Remove the weights that no node reads."""
    graph = model.graph
    used = set(_readers(graph)) | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    if len(kept) < len(graph.initializer):
        del graph.initializer[:]
        graph.initializer.extend(kept)


def tensors(values: Any) -> dict[str, tuple[str, tuple[int | str, ...]]]:
    """Return {name: (type, shape)} of a graph's inputs or outputs; names stand for any length."""
    from onnx import helper

    found = {}
    for value in values:
        tensor = value.type.tensor_type
        kind = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        dims = (dim.dim_param or dim.dim_value for dim in tensor.shape.dim)
        found[value.name] = (kind, tuple(dims))
    return found


def size(tensor: Any) -> int:
    """Return the number of a weight's elements."""
    elements = 1
    for dimension in tensor.dims:
        elements *= dimension
    return elements


def _readers(graph: Any) -> dict[str, list[Any]]:
    readers = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    return readers
