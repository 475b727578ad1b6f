"""Engines of TensorRT for RTX, built without a GPU for three generations of them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip('tensorrt_rtx', reason='needs the extra [tensorrt]')
pytest.importorskip('onnx', reason='needs the extra [export]')

from tests.model.preset_twin import shrunken_model
from unifiedmllm_ros.errors import BackendError, EngineFileError, ModelFileError
from unifiedmllm_ros.runtime.engine_cache import EngineCache
from unifiedmllm_ros.runtime.manifest import FORMAT, GraphFile, Manifest
from unifiedmllm_ros.runtime.tensorrt_build import (
    MOST_IMAGES,
    BuildJob,
    DecoderProfile,
    Progress,
    build,
    parse,
)
from unifiedmllm_ros.runtime.tensorrt_library import open_library
from unifiedmllm_ros.runtime.tensorrt_plans import Plans, capabilities

from .conftest import HIDDEN, TinyModel

GPUS = ('8.6', '8.9', '12.0')
CAPACITY = 64
LIBRARY = open_library('tensorrt_rtx')


def job_of(folder: Path, graph: str, gpus: tuple[str, ...] = GPUS) -> BuildJob:
    manifest = Manifest.load(folder)
    profile = DecoderProfile.of(manifest, CAPACITY) if graph == 'decoder' else None
    return BuildJob(folder / f'{graph}.onnx', graph, manifest, gpus, profile)


@pytest.mark.parametrize('graph', ['vision', 'decoder'])
def test_one_engine_for_three_generations(tiny: TinyModel, graph: str) -> None:
    said: list[str] = []
    plan = build(job_of(tiny.folder / 'onnx', graph), LIBRARY, said.append)
    assert len(plan) > 10_000
    assert said[0].startswith(f'{graph}: building for compute capability 8.6, 8.9, 12.0')
    assert any('to go' in words for words in said)
    assert 'built in' in said[-1]


@pytest.mark.parametrize('precision', ['fp16', 'bf16', 'int8', 'int4'])
def test_every_precision_of_the_papers_model_builds(precision: str, tmp_path: Path) -> None:
    pytest.importorskip('onnxscript', reason='needs the extra [export]')
    from unifiedmllm_ros.runtime.export import decoder_graph, write_graph
    from unifiedmllm_ros.runtime.export_options import ExportOptions

    options = ExportOptions(precision, 'tensorrt')  # type: ignore[arg-type]
    model = shrunken_model('7b')
    graph = decoder_graph(model.language_model, options.arithmetic)
    entry = GraphFile.model_validate(write_graph(graph, tmp_path, options))
    text = model.config.text_config
    manifest = Manifest(
        format=FORMAT,
        model='twin',
        graphs={'decoder': entry},
        layers=text.num_hidden_layers,
        kv_heads=text.num_key_value_heads,
        head_dim=8,
        hidden=text.hidden_size,
        vocab=text.vocab_size,
        image_size=(28, 28),
        visual_tokens=4,
        precision=precision,
    )
    profile = DecoderProfile.of(manifest, CAPACITY)
    job = BuildJob(tmp_path / 'decoder.onnx', 'decoder', manifest, ('8.9',), profile)
    network, _parser = parsed(job)
    expected = 'BF16' if precision == 'bf16' else 'HALF'
    assert network.get_input(6).dtype.name == expected
    assert build(job, LIBRARY, print)


def parsed(job: BuildJob) -> tuple:
    trt = LIBRARY.module
    logger = LIBRARY.logger()
    builder = trt.Builder(logger)
    network, parser = parse(job, LIBRARY, builder, logger)
    return network, (parser, builder, logger)


def test_bindings_of_the_decoder(tiny: TinyModel) -> None:
    job = job_of(tiny.folder / 'onnx', 'decoder')
    network, _kept = parsed(job)
    inputs = {t.name: tuple(t.shape) for t in map(network.get_input, range(network.num_inputs))}
    outputs = {t.name: tuple(t.shape) for t in map(network.get_output, range(network.num_outputs))}
    assert inputs['input_ids'] == (1, -1)
    assert inputs['features'] == (1, -1, HIDDEN)
    assert (inputs['position'], inputs['rows']) == ((1,), (-1,))
    assert (inputs['places'], inputs['visible']) == ((1, -1), (-1, CAPACITY))
    # In place: the cache has one fixed size, in and out.
    cache = [name for name in inputs if name.startswith(('keys_', 'values_'))]
    assert len(cache) == 2 * job.manifest.layers
    assert all(inputs[name][2] == CAPACITY for name in cache)
    assert all(outputs[f'present_{name}'] == inputs[name] for name in cache)
    trt = LIBRARY.module
    assert network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    updates = [
        network.get_layer(i)
        for i in range(network.num_layers)
        if 'KV_CACHE' in network.get_layer(i).type.name
    ]
    assert len(updates) == len(cache)


def test_profiles_fit_the_cache(tiny: TinyModel) -> None:
    profile = job_of(tiny.folder / 'onnx', 'decoder').profile
    assert profile is not None
    prefill, decode = profile.shapes(HIDDEN)
    assert prefill['input_ids'][2][1] + prefill['features'][2][1] == CAPACITY
    assert set(decode['input_ids']) == {(1, 1)}
    assert decode['features'][2] == (1, 0, HIDDEN)
    with pytest.raises(BackendError, match='no room for 6 visual tokens'):
        DecoderProfile.of(Manifest.load(tiny.folder / 'onnx'), 7)
    assert MOST_IMAGES > 1


def test_built_once_then_from_the_cache(tiny: TinyModel, tmp_path: Path) -> None:
    said: list[str] = []
    cache = EngineCache.open(tmp_path)
    plans = Plans(tiny.folder / 'onnx', cache, '8.9', said.append, LIBRARY, CAPACITY)
    first = plans.get('vision')
    count = len(said)
    again = plans.get('vision')
    assert (first.built, again.built) == (True, False)
    assert first.content == again.content
    assert len(said) == count  # a hit is silent
    file = tmp_path / plans.key('vision').file
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(EngineFileError, match='truncated'):
        plans.get('vision')
    assert plans.get('vision', rebuild=True).built
    assert any('built anew' in words for words in said)
    assert not plans.get('vision').built


def test_what_cannot_be_built_is_named(tiny: TinyModel, tmp_path: Path) -> None:
    job = job_of(tiny.folder / 'onnx', 'vision', ('9.0',))
    with pytest.raises(BackendError, match=r'compute capability 9\.0 \(it knows SM120'):
        build(job, LIBRARY, print)
    (tmp_path / 'vision.onnx').write_bytes(b'no graph')
    broken = BuildJob(tmp_path / 'vision.onnx', 'vision', job.manifest, GPUS)
    with pytest.raises(ModelFileError, match='does not take the graph'):
        build(broken, LIBRARY, print)
    with pytest.raises(BackendError, match=r'as 8\.9 is written'):
        capabilities(['sm89'])
    assert capabilities(['8.9', '12.0']) == ('8.9', '12.0')


def test_progress_tells_how_far_and_how_long() -> None:
    times = iter([0.0, 10.0, 30.0])
    said: list[str] = []
    progress = Progress('decoder', said.append, lambda: next(times))
    progress.start('building', None, 4)
    progress.start('tactics', 'building', 100)
    progress.step('tactics', 50)
    progress.step('building', 0)
    progress.step('building', 2)
    progress.finish('building')
    assert said == [
        'decoder: 25 % after 10 s, about 30 s to go',
        'decoder: 75 % after 30 s, about 10 s to go',
    ]
