"""Convolutions in 8 bits: near the whole ones, and what reads their maps stays whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')
pytest.importorskip('onnxscript', reason='needs the extra [export]')

from tests.model.twin import IMAGE_SIZE, seeing_twin, twin_processor  # noqa: E402
from unifiedmllm_ros.errors import BackendError, ConfigError  # noqa: E402
from unifiedmllm_ros.runtime.backends import open_engine  # noqa: E402
from unifiedmllm_ros.runtime.calibration import Example  # noqa: E402
from unifiedmllm_ros.runtime.export import (  # noqa: E402
    _vision,
    export_model,
    write_graph,
)
from unifiedmllm_ros.runtime.export_options import ExportOptions  # noqa: E402
from unifiedmllm_ros.runtime.manifest import Manifest  # noqa: E402
from unifiedmllm_ros.runtime.onnx_engine import OnnxEngine  # noqa: E402
from unifiedmllm_ros.runtime.vision_quantisation import FIRST, quantise_convolutions  # noqa: E402

PROCESSOR = twin_processor()


def examples(count: int) -> tuple[Example, ...]:
    rng = np.random.default_rng(0)
    return tuple(Example(rng.random((1, 3, *IMAGE_SIZE), np.float32), ()) for _ in range(count))


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('model')
    PROCESSOR.save_pretrained(out)
    export_model(
        seeing_twin(PROCESSOR), 'twin', out / 'onnx', examples=examples(4), int8_vision=True
    )
    return out


def test_the_manifest_and_the_engine_say_so(folder: Path) -> None:
    manifest = Manifest.load(folder / 'onnx')
    assert {name: graph.precision for name, graph in manifest.graphs.items()} == {
        'vision': 'int8',
        'decoder': 'fp32',
    }
    assert OnnxEngine.load(folder / 'onnx', threads=1).info.precision == 'fp32, vision int8'


def test_all_convolutions_but_the_outer_ones_have_integer_weights(folder: Path) -> None:
    import onnx

    graph = onnx.load(folder / 'onnx' / 'vision.onnx').graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == 'Conv']
    made = [makers.get(node.input[1]) for node in convolutions]
    quantised = made[FIRST:-1]
    assert {maker.op_type for maker in quantised} == {'DequantizeLinear'}
    assert all(maker is None or maker.op_type == 'Cast' for maker in (*made[:FIRST], made[-1]))
    levels = [weights[maker.input[0]] for maker in quantised]
    values = [np.frombuffer(tensor.raw_data, np.int8) for tensor in levels]
    # 7 bits: products of pairs fit 16 bits on processors without VNNI.
    assert max(np.abs(value.astype(int)).max() for value in values) == 64


def test_maps_stay_near_the_whole_ones(folder: Path, tmp_path: Path) -> None:
    """On pictures that set no range."""
    import onnx
    import onnxruntime

    options = ExportOptions()
    write_graph(_vision(seeing_twin(PROCESSOR), options), tmp_path, options)
    pixels = np.random.default_rng(9).random((1, 3, *IMAGE_SIZE), np.float32)
    maps = []
    for file in (tmp_path / 'vision.onnx', folder / 'onnx' / 'vision.onnx'):
        model = onnx.load(file)
        last = [node for node in model.graph.node if node.op_type == 'Conv'][-1]
        model.graph.output.append(onnx.ValueInfoProto(name=last.output[0]))
        session = onnxruntime.InferenceSession(model.SerializeToString())
        maps.append(session.run([last.output[0]], {'pixels': pixels})[0])
    assert 0 < np.abs(maps[1] - maps[0]).max() < 0.1 * np.ptp(maps[0])


def test_what_cannot_be_quantised_is_named(folder: Path, tmp_path: Path) -> None:
    import onnx

    with pytest.raises(ConfigError, match='needs pictures'):
        quantise_convolutions(onnx.load(folder / 'onnx' / 'vision.onnx'), [])
    with pytest.raises(ConfigError, match='of 0 convolutions'):
        quantise_convolutions(onnx.load(folder / 'onnx' / 'decoder.onnx'), [])
    with pytest.raises(ConfigError, match='--calibration'):
        export_model(seeing_twin(PROCESSOR), 'twin', tmp_path, int8_vision=True)
    with pytest.raises(ConfigError, match='only graphs for onnx'):
        export_model(
            seeing_twin(PROCESSOR), 'twin', tmp_path, target='tensorrt', examples=examples(1)
        )


def test_tensorrt_does_not_take_them(folder: Path, tmp_path: Path) -> None:
    from unifiedmllm_ros.errors import ModelFileError
    from unifiedmllm_ros.runtime.engine_cache import EngineCache
    from unifiedmllm_ros.runtime.tensorrt_plans import Plans

    with pytest.raises(BackendError, match='with --to tensorrt'):
        Plans(folder / 'onnx', EngineCache.open(tmp_path), '8.9', print)
    with pytest.raises(ModelFileError, match=r'--to tensorrt --precision fp32'):
        open_engine(folder, 'tensorrt', 'fp32')


def test_the_runtime_answers_from_them(folder: Path) -> None:
    engine = open_engine(folder, 'onnxruntime', threads=1)
    (features,) = engine.encode_images(examples(1)[0].pixels)
    assert np.isfinite(features).all()
    assert json.loads((folder / 'onnx' / 'manifest.json').read_text())['graphs']['vision']
