"""Every preset through the export: all encoders, LoRAMoE, precisions, large weights, the check."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')
pytest.importorskip('onnxscript', reason='needs the extra [export]')
peft = pytest.importorskip('peft', reason='needs the extra [train]')

from tests.model.preset_twin import shrunken_model  # noqa: E402
from unifiedmllm_ros.errors import BackendError, ConfigError, ModelFileError  # noqa: E402
from unifiedmllm_ros.model.loramoe import LoraMoEConfig  # noqa: E402
from unifiedmllm_ros.runtime import export_check  # noqa: E402
from unifiedmllm_ros.runtime.export import (  # noqa: E402
    decoder_graph,
    export_model,
    write_graph,
)
from unifiedmllm_ros.runtime.export_options import ExportOptions  # noqa: E402
from unifiedmllm_ros.runtime.manifest import Manifest  # noqa: E402
from unifiedmllm_ros.runtime.onnx_engine import OnnxEngine  # noqa: E402
from unifiedmllm_ros.runtime.quantisation import BLOCK, symmetric  # noqa: E402
from unifiedmllm_ros.runtime.torch_engine import TorchEngine  # noqa: E402


def adapted(preset: str) -> torch.nn.Module:
    """A twin with a LoRAMoE adapter whose experts do something."""
    model = peft.get_peft_model(shrunken_model(preset), LoraMoEConfig(init_weights=False))
    return model.eval()


@pytest.fixture(scope='module')
def paper(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    """The twin of 7b with experts: image, video and audio; weights beside the graphs."""
    out = tmp_path_factory.mktemp('paper')
    model = adapted('7b')
    export_model(model, 'twin-7b', out, half_weights=False, external_above=50_000, max_length=200)
    return model, out


def test_all_graphs_of_the_papers_model_give_torchs_numbers(
    paper: tuple[torch.nn.Module, Path],
) -> None:
    model, out = paper
    engine = OnnxEngine.load(out, threads=1)
    report = export_check.compare_numbers(engine, TorchEngine(model, 'twin'), engine.manifest)
    assert set(report.differences) == {'vision', 'video', 'audio', 'logits'}
    for name, difference in report.differences.items():
        assert difference < 2e-3 * max(report.scale[name], 1), name
    assert report.passed


def test_experts_are_in_the_graph(paper: tuple[torch.nn.Module, Path]) -> None:
    model, out = paper
    engine, ids = OnnxEngine.load(out, threads=1), [7, 8, 9]
    said = engine.step(ids, engine.new_cache())
    with model.disable_adapter():
        reference = TorchEngine(model, 'twin')
        without = reference.step(ids, reference.new_cache())
    assert np.abs(said - without).max() > 1e-2


def test_weights_lie_beside_the_graph_and_are_checked(
    paper: tuple[torch.nn.Module, Path],
) -> None:
    _, out = paper
    manifest = Manifest.load(out)
    decoder = manifest.graphs['decoder']
    assert decoder.weights is not None
    assert decoder.weights.file == 'decoder.onnx.data'
    assert manifest.bytes_of('decoder') == decoder.bytes + decoder.weights.bytes
    file = out / decoder.weights.file
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    try:
        with pytest.raises(ModelFileError, match=r'decoder\.onnx\.data: .* truncated'):
            manifest.graph(out, 'decoder')
    finally:
        file.write_bytes(content)


def test_manifest_says_shapes_precision_and_versions(
    paper: tuple[torch.nn.Module, Path],
) -> None:
    fields = json.loads((paper[1] / 'manifest.json').read_text())
    decoder = fields['graphs']['decoder']
    assert decoder['shapes']['position'] == [1]
    assert decoder['types']['keys_0'] == 'float32'
    assert decoder['shapes']['features'][2] == fields['hidden']
    assert (fields['precision'], fields['max_length']) == ('fp32', 200)
    assert fields['video']['frames'] == 4
    assert fields['versions'].keys() >= {'torch', 'transformers', 'onnx', 'onnxruntime', 'python'}


def test_media_that_a_model_lacks_or_takes_otherwise(
    paper: tuple[torch.nn.Module, Path],
) -> None:
    engine = OnnxEngine.load(paper[1], threads=1)
    with pytest.raises(ValueError, match='video of shape'):
        engine.encode_video(np.zeros((3, 3, 28, 28), np.float32))
    nano = TorchEngine(shrunken_model('tabletop-nano'), 'nano')
    with pytest.raises(ConfigError, match='nano has no audio branch'):
        nano.encode_audio(np.zeros(10, np.float32))


@pytest.mark.parametrize('precision', ['fp16', 'int8', 'int4'])
def test_decoders_of_lower_precision_stay_near_torch(
    paper: tuple[torch.nn.Module, Path], precision: str, tmp_path: Path
) -> None:
    model, out = paper
    base = model.get_base_model()
    options = ExportOptions(precision, half_weights=False)  # type: ignore[arg-type]
    graph = decoder_graph(base.language_model, options.arithmetic)
    entry = write_graph(graph, tmp_path, options)
    fields = json.loads((out / 'manifest.json').read_text())
    vision = fields['graphs']['vision']
    for name in (vision['file'], (vision['weights'] or vision)['file']):
        (tmp_path / name).write_bytes((out / name).read_bytes())
    fields |= {
        'graphs': {'vision': vision, 'decoder': entry},
        'precision': precision,
        'cache': options.arithmetic,
        'video': None,
        'audio': None,
    }
    (tmp_path / 'manifest.json').write_text(json.dumps(fields))
    engine = OnnxEngine.load(tmp_path, threads=1)
    reference, ids = TorchEngine(model, 'twin'), [7, 8, 9, 20, 40, 60, 80]
    said, expected = (e.step(ids, e.new_cache()) for e in (engine, reference))
    drift = np.linalg.norm(said - expected) / np.linalg.norm(expected)
    # A matrix in 8 bits is off by about a hundredth, one in 4 by a tenth, and there are many in
    # a row; random experts enlarge every error.
    allowed = {'fp16': 0.005, 'int8': 0.04, 'int4': 0.5}[precision]
    assert 0 < drift < allowed, drift
    if precision != 'fp16':
        whole = fields['graphs']['decoder']
        assert whole['bytes'] < Manifest.load(out).bytes_of('decoder')


def test_whisper_and_frames_of_regions_in_the_small_preset(tmp_path: Path) -> None:
    model = shrunken_model('smol-135m')
    from unifiedmllm_ros.runtime.export import _audio, _video

    options = ExportOptions(half_weights=False)
    import onnxruntime

    for graph, name in ((_video(model, options), 'frames'), (_audio(model.audio_tower), 'waves')):
        write_graph(graph, tmp_path, options)
        session = onnxruntime.InferenceSession(tmp_path / f'{graph.name}.onnx')
        (values,) = graph.inputs
        (features,) = session.run(None, {name: values.numpy()})
        with torch.no_grad():
            expected = graph.module(values)
            if name == 'waves':
                # The convolution gives the spectrum of the STFT.
                expected = model.encode_audio(values)
        np.testing.assert_allclose(features, expected.numpy(), atol=2e-3)


def test_options_that_do_not_hold_are_named(tmp_path: Path) -> None:
    model = shrunken_model('7b')
    with pytest.raises(ConfigError, match="precision 'fp8': choose from fp32"):
        export_model(model, 'x', tmp_path, precision='fp8')  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="target 'coreml'"):
        export_model(model, 'x', tmp_path, target='coreml')  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match='has 4096 positions'):
        export_model(model, 'x', tmp_path, max_length=5000)


def test_graphs_for_tensorrt_alone_are_refused_by_onnxruntime(
    paper: tuple[torch.nn.Module, Path], tmp_path: Path
) -> None:
    fields = json.loads((paper[1] / 'manifest.json').read_text())
    for change in ({'precision': 'bf16'}, {'precision': 'int4', 'target': 'tensorrt'}):
        (tmp_path / 'manifest.json').write_text(json.dumps({**fields, **change}))
        with pytest.raises(BackendError, match='use the backend tensorrt'):
            OnnxEngine.load(tmp_path)


@pytest.mark.parametrize('bits', [4, 8])
def test_integer_weights_are_the_nearest_levels(bits: int) -> None:
    values = np.random.default_rng(bits).normal(size=(2 * BLOCK, 5)).astype(np.float32)
    levels, scales = symmetric(values, bits)  # type: ignore[arg-type]
    block = BLOCK if bits == 4 else len(values)
    back = levels * scales.repeat(block, axis=0)
    assert np.abs(levels).max() == (7 if bits == 4 else 127)
    assert (np.abs(back - values) <= scales.repeat(block, axis=0) / 2 + 1e-6).all()


def test_a_report_fails_below_what_its_precision_must_reach(tmp_path: Path) -> None:
    numbers = export_check.Report('onnxruntime', 'int8', {'logits': 0.1}, {'logits': 10.0})
    good = export_check.with_answers(numbers, ['a'] * 49 + ['b'], ['a'] * 50)
    bad = export_check.with_answers(numbers, ['a'] * 48 + ['b'] * 2, ['a'] * 50)
    assert (good.equal, good.passed) == (0.98, True)
    assert (bad.equal, bad.passed) == (0.96, False)
    (tmp_path / 'manifest.json').write_text('{"format": 2}')
    export_check.write_report(tmp_path, bad)
    assert json.loads((tmp_path / 'manifest.json').read_text())['check']['passed'] is False
