"""Weights of 4 and 8 bits: block-wise, weight-only, by the quantiser of ONNX Runtime.

For ONNX Runtime each MatMul with a constant weight becomes MatMulNBits, its own operator, or where
the decoder is small a MatMul whose weight is widened at the start (see `widening`). For TensorRT
the weights go through DequantizeLinear of the ONNX standard: in blocks for 4 bits, and with one
scale for each column for 8, because it has no blocks of 8 bits. How many bits which matrix gets is
the caller's choice (see `sensitivity`); 16 leaves one as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np

from unifiedmllm_ros.errors import MissingExtraError
from unifiedmllm_ros.runtime.onnx_files import (
    drop_unused,
    fold_transposes,
    makers_of,
    products,
    size,
)
from unifiedmllm_ros.runtime.simplification import HALF_TURN
from unifiedmllm_ros.runtime.widening import widen

Bits = Literal[4, 8, 16]
Levels = Mapping[str, Bits]
"""Bits by the name of a MatMul."""
BLOCK: Final = 32
"""Weights that share a scale, as in llama.cpp's Q4 and Q8 formats."""
SMALL: Final = 64 << 20
"""Bytes of float32 weights below which products of integers are no faster."""
_INTEGER_PRODUCTS: Final = 4  # accuracy_level of MatMulNBits: multiply int8 by int8


def quantise(model: Any, levels: Levels, target: str) -> Any:
    """Return the model with integer weights, for 'onnx' or 'tensorrt'.

    Raises MissingExtraError without onnxruntime's quantiser.
    """
    small = 4 * sum(matrices(model).values()) < SMALL
    chosen = [name for name, bits in levels.items() if bits != 16]
    found = products(model.graph)
    fold_transposes(model, {found[name][0].input[1] for name in chosen})
    if target == 'tensorrt':
        return _standard(model, levels)
    named = [node.name for node in model.graph.node if node.op_type == 'MatMul']
    for bits in sorted({bits for bits in levels.values() if bits != 16}):
        others = [name for name in named if levels.get(name) != bits]
        model = _by_onnxruntime(model, bits, others)
    if small:
        widen(model)
        drop_unused(model)
    return model


def uniform(model: Any, bits: Bits, head_bits: Bits = 8) -> dict[str, Bits]:
    """Return the same bits for all matrices but the output layer.

    head_bits: of that, whose logits decide between near numbers.
    """
    head = _head(model.graph)
    return {name: head_bits if name == head else bits for name in matrices(model)}


def matrices(model: Any) -> dict[str, int]:
    """Return the MatMuls whose weights can be quantised, and how many weights each has.

    The one that turns rotary embeddings by halves is not among them: its zeros and ones would
    not stay what they are.
    """
    return {
        name: size(tensor)
        for name, (_, tensor) in products(model.graph).items()
        if len(tensor.dims) == 2 and tensor.name != HALF_TURN
    }


def _by_onnxruntime(model: Any, bits: Bits, exclude: list[str]) -> Any:
    try:
        from onnxruntime.quantization.matmul_nbits_quantizer import (
            DefaultWeightOnlyQuantConfig,
            MatMulNBitsQuantizer,
        )
    except ImportError as error:
        raise MissingExtraError.naming('onnxruntime.quantization', 'export') from error
    config = DefaultWeightOnlyQuantConfig(
        block_size=BLOCK, is_symmetric=False, bits=bits, accuracy_level=_INTEGER_PRODUCTS
    )
    # It has a line to say about every node of the graph.
    logging.getLogger(MatMulNBitsQuantizer.__module__).setLevel(logging.WARNING)
    quantiser = MatMulNBitsQuantizer(model, nodes_to_exclude=exclude, algo_config=config)
    quantiser.process()
    quantised = quantiser.model.model
    drop_unused(quantised)
    return quantised


def _standard(model: Any, levels: Levels) -> Any:
    """Put a DequantizeLinear before each constant weight of a MatMul."""
    from onnx import numpy_helper

    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in [node for node in graph.node if levels.get(node.name, 16) != 16]:
        values = numpy_helper.to_array(weights[node.input[1]])
        # A last block that is not full has no standard form.
        blocks = levels[node.name] == 4 and values.shape[0] % BLOCK == 0
        _dequantise(graph, node, values, blocks)
    drop_unused(model)
    return model


def _dequantise(graph: Any, node: Any, values: np.ndarray, blocks: bool) -> None:
    from onnx import TensorProto, helper, numpy_helper

    name = f'{node.name}_weight'
    levels, scales = symmetric(values.astype(np.float32), 4 if blocks else 8)
    if blocks:
        packed = helper.make_tensor(
            f'{name}_int', TensorProto.INT4, levels.shape, _packed(levels), raw=True
        )
        attributes = {'axis': 0, 'block_size': BLOCK}
    else:
        packed = numpy_helper.from_array(levels, f'{name}_int')
        scales, attributes = scales[0], {'axis': 1}
    graph.initializer.append(packed)
    graph.initializer.append(numpy_helper.from_array(scales.astype(values.dtype), f'{name}_scale'))
    widen = helper.make_node(
        'DequantizeLinear', [f'{name}_int', f'{name}_scale'], [name], name=name, **attributes
    )
    place = next(i for i, other in enumerate(graph.node) if other.name == node.name)
    node.input[1] = name
    graph.node.insert(place, widen)


def symmetric(values: np.ndarray, bits: Bits) -> tuple[np.ndarray, np.ndarray]:
    """Quantise (rows, columns): int8 levels of the same shape, and their scales.

    With 4 bits each block of rows of a column has a scale (rows / BLOCK, columns), with 8 bits
    each column has one (1, columns).
    """
    rows, columns = values.shape
    high = 7 if bits == 4 else 127
    block = BLOCK if bits == 4 else rows
    grouped = values.reshape(rows // block, block, columns)
    scales = np.maximum(np.abs(grouped).max(axis=1), 1e-8) / high
    levels = np.clip(np.rint(grouped / scales[:, None]), -high, high)
    return levels.reshape(rows, columns).astype(np.int8), scales


def _packed(levels: np.ndarray) -> bytes:
    """Two's complement halves, the first one of a pair in the low bits (ONNX, type INT4)."""
    flat = levels.reshape(-1)
    return ((flat[0::2] & 15) | ((flat[1::2] & 15) << 4)).astype(np.uint8).tobytes()


def _head(graph: Any) -> str | None:
    """Return the name of the MatMul that gives the logits."""
    makers = makers_of(graph)
    node = makers.get('logits')
    while node is not None and node.op_type != 'MatMul':
        node = makers.get(node.input[0])
    return None if node is None else node.name
