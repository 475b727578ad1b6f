"""Flow, backgrounds and the frames between key frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='FRESCO needs the extra [experts]')
onnx = pytest.importorskip('onnx', reason='files of networks need the extra [export]')

from onnx import TensorProto, helper  # noqa: E402

from unifiedmllm_ros.errors import ModelError, ModelFileError  # noqa: E402
from unifiedmllm_ros.experts.fresco.interpolation import KeyFrame, interpolated  # noqa: E402
from unifiedmllm_ros.experts.fresco.networks import (  # noqa: E402
    BackgroundNetwork,
    FlowNetwork,
    dis_flow,
)
from unifiedmllm_ros.experts.fresco.pairs import FramePairs  # noqa: E402

SHAPE = (96, 128)


def texture(height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(3).integers(0, 255, (height // 4, width // 4, 3), np.uint8)
    return coarse.repeat(4, 0).repeat(4, 1)


def moving(count: int, step: int) -> list[np.ndarray]:
    """Frames of a texture that moves `step` pixels to the left each time."""
    wide = texture(SHAPE[0], SHAPE[1] + 64)
    return [wide[:, step * index : step * index + SHAPE[1]].copy() for index in range(count)]


def write(path: Path, inputs: dict[str, int], output: str, channels: int, node: Any) -> Path:
    def value(name: str, depth: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, depth, 'h', 'w'])

    given = [value(name, depth) for name, depth in inputs.items()]
    graph = helper.make_graph(node, 'network', given, [value(output, channels)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    onnx.save(model, path)
    return path


def constant(name: str, values: list[Any], kind: int) -> Any:
    tensor = helper.make_tensor(name, kind, [len(values)], values)
    return helper.make_node('Constant', [], [name], value=tensor)


def sliced(source: str, output: str, channels: int) -> list[Any]:
    """The first channels of `source`."""
    integers = TensorProto.INT64
    return [
        constant('from', [0], integers),
        constant('to', [channels], integers),
        constant('axis', [1], integers),
        helper.make_node('Slice', [source, 'from', 'to', 'axis'], [output]),
    ]


def flow_file(path: Path, channels: int = 2, output: str = 'flow') -> Path:
    """A network whose flow is the difference of red and green."""
    difference = helper.make_node('Sub', ['after', 'before'], ['all'])
    nodes = [difference, *sliced('all', output, channels)]
    return write(path, {'before': 3, 'after': 3}, output, 2, nodes)


def test_dis_finds_a_translation() -> None:
    before, after = moving(2, 5)
    flow = dis_flow(before, after)
    assert flow.shape == (*SHAPE, 2)
    middle = flow[16:-16, 24:-24]
    np.testing.assert_allclose(np.median(middle, axis=(0, 1)), (-5, 0), atol=0.3)


def test_little_is_hidden_where_everything_moves_together() -> None:
    pairs = FramePairs.from_frames(moving(3, 4), dis_flow)
    assert float(pairs.hidden_forward[:2, 8:-8, 16:-16].float().mean()) < 0.05
    assert len(pairs) == 3


def test_a_frame_between_two_key_frames_is_where_it_should_be() -> None:
    frames = moving(5, 4)
    keys = [KeyFrame(index, frames[index], 255 - frames[index]) for index in (0, 4)]
    made = interpolated(2, frames[2], keys, dis_flow).astype(int)
    error = np.abs(made - (255 - frames[2].astype(int)))[16:-16, 24:-24]
    blended = np.abs((510 - frames[0].astype(int) - frames[4]) / 2 - (255 - frames[2].astype(int)))
    assert error.mean() < blended[16:-16, 24:-24].mean() / 4


def test_a_frame_after_the_last_key_frame_follows_it() -> None:
    frames = moving(2, 4)
    made = interpolated(1, frames[1], [KeyFrame(0, frames[0], frames[0])], dis_flow)
    error = np.abs(made.astype(int) - frames[1])[16:-16, 24:-24]
    assert error.mean() < np.abs(frames[0].astype(int) - frames[1])[16:-16, 24:-24].mean() / 4


def test_flow_of_a_network(tmp_path: Path) -> None:
    network = FlowNetwork(flow_file(tmp_path / 'flow.onnx'), 'fresco')
    before, after = moving(2, 5)
    wanted = after.astype(np.float32)[..., :2] - before[..., :2]
    np.testing.assert_array_equal(network(before, after), wanted)


def test_background_of_a_network(tmp_path: Path) -> None:
    path = write(
        tmp_path / 'background.onnx',
        {'image': 3},
        'background',
        1,
        sliced('image', 'background', 1),
    )
    (frame,) = moving(1, 0)
    found = BackgroundNetwork(path, 'fresco')(frame)
    np.testing.assert_allclose(found, frame[..., :1] / 255, atol=1e-6)


def test_files_that_are_no_such_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r'none\.onnx'):
        FlowNetwork(tmp_path / 'none.onnx', 'fresco')
    (tmp_path / 'half.onnx').write_bytes(flow_file(tmp_path / 'whole.onnx').read_bytes()[:60])
    with pytest.raises(ModelFileError, match=r'half\.onnx'):
        FlowNetwork(tmp_path / 'half.onnx', 'fresco')
    with pytest.raises(ModelFileError, match=r"must take.*'image'"):
        BackgroundNetwork(tmp_path / 'whole.onnx', 'fresco')


def test_a_flow_of_the_wrong_form_is_an_error(tmp_path: Path) -> None:
    nodes = [helper.make_node('Sub', ['after', 'before'], ['flow'])]
    path = write(tmp_path / 'three.onnx', {'before': 3, 'after': 3}, 'flow', 3, nodes)
    with pytest.raises(ModelError, match=r'three\.onnx'):
        FlowNetwork(path, 'fresco')(*moving(2, 5))
