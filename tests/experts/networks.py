"""Tiny mask networks with the real one's signature, made when a test needs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RED, BOX = 0, 3


def write_channel_network(
    path: Path, channel: int = RED, *, size: int = 96, offset: float = 0.5, scale: float = 1.0
) -> Path:
    """Write a network whose mask is where a channel of the crop is above `offset`."""
    nodes = [
        helper.make_node('Gather', ['crops', 'channel'], ['one'], axis=1),
        helper.make_node('Sub', ['one', 'offset'], ['centred']),
        helper.make_node('Mul', ['centred', 'scale'], ['logits']),
    ]
    constants = [
        numpy_helper.from_array(np.array(channel, np.int64), 'channel'),
        numpy_helper.from_array(np.array(offset, np.float32), 'offset'),
        numpy_helper.from_array(np.array(scale, np.float32), 'scale'),
    ]
    graph = helper.make_graph(
        nodes,
        'mask',
        [helper.make_tensor_value_info('crops', TensorProto.FLOAT, ['n', 4, size, size])],
        [helper.make_tensor_value_info('logits', TensorProto.FLOAT, ['n', size, size])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path
