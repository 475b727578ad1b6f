"""Convolutions in 8 bits: static, by the quantiser of ONNX Runtime.

Weights have a scale for each channel, activations one for each tensor, set by pictures. The first
three convolutions stay in float32: they are narrow, so that 8 bits save no time, and make half of
the error in all. So do the last one and what comes after it, where peaks are found and edges read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from unifiedmllm_ros.errors import ConfigError, MissingExtraError
from unifiedmllm_ros.runtime.engine import Array

FIRST: Final = 3
"""Convolutions that stay as they are at the beginning."""
_INPUT: Final = 'pixels'
# What ONNX Runtime computes in 8 bits or, as ReLU, does away with.
_OPERATORS: Final = ('Conv', 'Add', 'Relu', 'Clip', 'Resize')


def quantise_convolutions(model: Any, pictures: Iterable[Array]) -> Any:
    """Return a vision graph with its convolutions in 8 bits.

    pictures: pixels [1, 3, H, W] (RGB in 0..1). Raises ConfigError for a graph with too
    few convolutions and without a picture, MissingExtraError without the quantiser.
    """
    import onnx

    nodes = _quantised(model.graph.node)
    pixels = list(pictures)
    if not pixels:
        raise ConfigError('a vision graph in 8 bits needs pictures to set its ranges: give some')
    static, kinds, announce = _library()
    announce(model)  # the exporter has folded what the quantiser would ask to be folded
    with TemporaryDirectory() as folder, _quiet():
        file = Path(folder) / 'vision.onnx'
        static(
            model,
            file,
            _reader(pixels),
            nodes_to_quantize=nodes,
            op_types_to_quantize=list(_OPERATORS),
            per_channel=True,
            # 7 bits of weights: products of pairs then fit the 16 bits that processors without
            # VNNI add them up in, and all give the same numbers.
            reduce_range=True,
            activation_type=kinds.QUInt8,
            weight_type=kinds.QInt8,
        )
        return onnx.load(file)


def _quantised(nodes: Sequence[Any]) -> list[str]:
    """Name the nodes between the first convolutions and the last one."""
    places = [place for place, node in enumerate(nodes) if node.op_type == 'Conv']
    if len(places) < FIRST + 2:
        raise ConfigError(
            f'a vision graph of {len(places)} convolutions has nothing to quantise: the first '
            f'{FIRST} and the last stay as they are'
        )
    between = nodes[places[FIRST] : places[-1]]
    return [node.name for node in between if node.op_type in _OPERATORS]


def _library() -> tuple[Any, Any, Any]:
    try:
        from onnxruntime.quantization import QuantType, quantize_static
        from onnxruntime.quantization.quant_utils import add_pre_process_metadata
    except ImportError as error:
        raise MissingExtraError.naming('onnxruntime.quantization', 'export') from error
    return quantize_static, QuantType, add_pre_process_metadata


def _reader(pixels: Sequence[Array]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._rest: Iterator[Array] = iter(pixels)

        def get_next(self) -> dict[str, Array] | None:
            values = next(self._rest, None)
            return None if values is None else {_INPUT: values}

    return Reader()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser's lines about every node out of the log meanwhile."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
