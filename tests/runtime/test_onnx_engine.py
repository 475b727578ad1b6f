"""The engine agrees with torch however a sequence is cut; damaged files are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from unifiedmllm_ros.errors import InstructionError, ModelError, ModelFileError
from unifiedmllm_ros.runtime.onnx_engine import OnnxEngine

from .conftest import HIDDEN, IMAGE_SIZE, VISUAL_TOKENS, TinyModel


def test_info_names_what_runs(engine: OnnxEngine) -> None:
    assert engine.info.backend.startswith('onnxruntime 1.')
    assert (engine.info.model, engine.info.precision) == ('tiny', 'fp32')
    assert (engine.info.device, engine.info.max_length) == ('cpu', 512)


def test_image_becomes_visual_tokens(engine: OnnxEngine) -> None:
    features = engine.encode_image(np.full((1, 3, *IMAGE_SIZE), 0.5, np.float32))
    assert features.shape == (VISUAL_TOKENS, HIDDEN)
    assert np.isfinite(features).all()


@pytest.mark.parametrize('cuts', [[9], [1, 8], [4, 5], [1] * 9, [2, 3, 1, 3]])
def test_any_cut_of_a_sequence_gives_the_logits_of_torch(
    tiny: TinyModel, engine: OnnxEngine, cuts: list[int]
) -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 1000, 9).tolist()
    features = rng.normal(size=(VISUAL_TOKENS, HIDDEN)).astype(np.float32)
    cache, logits, rest = engine.new_cache(), [engine.step([7], engine.new_cache())], list(ids)
    engine.step([7], cache)
    for place, cut in enumerate(cuts):
        logits.append(engine.step(rest[:cut], cache, features if place == 0 else None))
        rest = rest[cut:]
    expected = tiny.reference(features, [7], ids)
    assert cache.length == 10 + VISUAL_TOKENS
    assert np.allclose(np.concatenate(logits[1:]), expected[1 + VISUAL_TOKENS :], atol=1e-4)
    assert np.allclose(logits[0], expected[:1], atol=1e-4)


def test_forks_go_their_own_way_and_truncate_forgets(engine: OnnxEngine) -> None:
    cache = engine.new_cache()
    engine.step([1, 2, 3], cache)
    fork = cache.fork()
    there = engine.step([4], fork)
    assert (cache.length, fork.length) == (3, 4)
    assert np.allclose(engine.step([4], cache), there, atol=1e-5)
    fork.truncate(2)
    assert np.allclose(engine.step([3, 4], fork)[-1], there[-1], atol=1e-4)
    with pytest.raises(ValueError, match='cannot truncate'):
        fork.truncate(5)


def test_a_sequence_too_long_is_refused_and_the_cache_unchanged(engine: OnnxEngine) -> None:
    cache = engine.new_cache()
    engine.step([1] * 506, cache)
    with pytest.raises(InstructionError, match='513 positions'):
        engine.step([1] * 7, cache)
    assert cache.length == 506
    engine.step([1] * 6, cache)


def test_a_failing_graph_is_a_model_error(engine: OnnxEngine) -> None:
    cache = engine.new_cache()
    with pytest.raises(ModelError, match='decoder graph failed'):
        engine.step([10**9], cache)
    assert cache.length == 0
    with pytest.raises(ValueError, match='one token'):
        engine.step([], cache)


@pytest.fixture
def folder(tiny: TinyModel, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny.folder / 'onnx', tmp_path / 'onnx'))


@pytest.mark.parametrize('name', ['manifest.json', 'vision.onnx', 'decoder.onnx'])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelFileError, match=name):
        OnnxEngine.load(folder)


def test_a_truncated_graph_is_named(folder: Path) -> None:
    file = folder / 'decoder.onnx'
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelFileError, match=r'decoder\.onnx: .* truncated'):
        OnnxEngine.load(folder)


def test_a_changed_graph_is_named(folder: Path) -> None:
    content = bytearray((folder / 'decoder.onnx').read_bytes())
    content[-100] ^= 1
    (folder / 'decoder.onnx').write_bytes(content)
    with pytest.raises(ModelFileError, match=r'decoder\.onnx: .*sha256'):
        OnnxEngine.load(folder)


def edit(folder: Path, **fields: object) -> None:
    file = folder / 'manifest.json'
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'format': 3}, 'format 3, this version reads format 1 and 2'),
        ({'format': None}, 'format None'),
        ({'layers': 0}, 'layers'),
        ({'graphs': {}}, "no graph 'vision'"),
        ({'layers': 3}, r'decoder\.onnx: inputs and outputs'),
        ({'vocab': 99}, 'the manifest says'),
        ({'visual_tokens': 7}, 'the manifest says'),
        ({'max_length': 3}, 'positions'),
    ],
)
def test_a_manifest_of_another_model_or_version(
    folder: Path, fields: dict[str, object], message: str
) -> None:
    edit(folder, **fields)
    with pytest.raises(ModelFileError, match=message):
        OnnxEngine.load(folder)


@pytest.mark.parametrize('content', ['', '{"format": 1', '[]', '7', '{"format": 1}'])
def test_a_damaged_manifest(folder: Path, content: str) -> None:
    (folder / 'manifest.json').write_text(content)
    with pytest.raises(ModelFileError, match=r'manifest\.json'):
        OnnxEngine.load(folder)


def test_swapped_graphs_are_told_apart(folder: Path) -> None:
    graphs = json.loads((folder / 'manifest.json').read_text())['graphs']
    edit(folder, graphs={'vision': graphs['decoder'], 'decoder': graphs['vision']})
    with pytest.raises(ModelFileError, match=r'decoder\.onnx: inputs and outputs'):
        OnnxEngine.load(folder)


def test_a_file_that_is_no_graph_is_named(folder: Path) -> None:
    from .conftest import graph_file

    (folder / 'vision.onnx').write_bytes(b'not a graph')
    graphs = json.loads((folder / 'manifest.json').read_text())['graphs']
    entry = graph_file(folder / 'vision.onnx', ['pixels'], ['features'])
    edit(folder, graphs={**graphs, 'vision': entry.model_dump()})
    with pytest.raises(ModelFileError, match=r'vision\.onnx: ONNX Runtime'):
        OnnxEngine.load(folder)
