"""The engine agrees with torch however a sequence is cut; damaged files are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from unifiedmllm_ros.errors import InstructionError, ModelError, ModelFileError
from unifiedmllm_ros.runtime.engine import Row
from unifiedmllm_ros.runtime.onnx_engine import OnnxEngine

from .conftest import HIDDEN, IMAGE_SIZE, VISUAL_TOKENS, TinyModel
from .steps import check_steps_over_several


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


@pytest.mark.parametrize('lengths', [(3, 9, 1, 4), (5, 2, 8), (300, 250, 2)])
def test_a_step_over_several_sequences_gives_the_logits_of_torch(
    tiny: TinyModel, engine: OnnxEngine, lengths: tuple[int, ...]
) -> None:
    check_steps_over_several(tiny, engine, lengths, seed=2)  # the last ones fit no one buffer


def test_all_graphs_run_on_the_threads_asked_for(tiny: TinyModel) -> None:
    engine = OnnxEngine.load(tiny.folder / 'onnx', threads=2)
    sessions = (engine._encoders['vision'], engine._decoder._session)
    assert [s.get_session_options().intra_op_num_threads for s in sessions] == [2, 2]
    check_steps_over_several(tiny, engine, (64, 3, 128), seed=5)


def test_sequences_of_different_buffers_come_together(tiny: TinyModel, engine: OnnxEngine) -> None:
    caches = [engine.new_cache() for _ in range(3)]
    for place, cache in enumerate(caches):
        engine.step([1, 2, 3][place:], cache)
    said = engine.step_all([Row([9, 8], cache, last=1) for cache in caches])
    assert len({id(cache.buffers) for cache in caches}) == 1
    for place, logits in enumerate(said):
        expected = tiny.reference(None, [*[1, 2, 3][place:], 9, 8])
        assert np.allclose(logits, expected[-1:], atol=1e-4)


def test_what_one_sequence_spoils_does_not_spread(tiny: TinyModel, engine: OnnxEngine) -> None:
    base = engine.new_cache()
    engine.step([1, 2], base)
    clean, spoilt = base.fork(), base.fork()
    nan = np.full((VISUAL_TOKENS, HIDDEN), np.nan, np.float32)
    first = engine.step_all([Row([3], clean), Row([3], spoilt, [(0, nan)])])
    assert np.isnan(first[1]).all()
    clean.truncate(2)  # what the same run gave is not to be trusted
    (again,) = engine.step_all([Row([3], clean)])
    assert np.allclose(again, tiny.reference(None, [1, 2, 3])[-1:], atol=1e-4)


def test_a_step_that_fails_leaves_all_sequences_as_they_were(engine: OnnxEngine) -> None:
    caches = [engine.new_cache() for _ in range(2)]
    with pytest.raises(ModelError, match='decoder graph failed'):
        engine.step_all([Row([1], caches[0]), Row([10**9], caches[1])])
    assert [cache.length for cache in caches] == [0, 0]
    with pytest.raises(ValueError, match='a cache of its own'):
        engine.step_all([Row([1], caches[0]), Row([2], caches[0])])
    with pytest.raises(ValueError, match='a cache of its own'):
        engine.step_all([])


def test_a_sequence_among_many_others_gets_buffers_of_its_own(engine: OnnxEngine) -> None:
    base = engine.new_cache()
    engine.step([1, 2], base)
    others = [base.fork() for _ in range(12)]
    engine.step_all([Row([3 + place] * 30, other, last=1) for place, other in enumerate(others)])
    crowded = others[0].buffers
    engine.step([4], others[0])
    assert others[0].buffers is not crowded
    assert others[0].buffers.capacity == 64


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
        ({'format': 2}, 'format 2, this version reads format 3'),
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
