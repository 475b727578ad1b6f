"""The engine of TensorRT against torch, with ONNX Runtime in place of the GPU.

What a GPU would do beyond that is tested by test_tensorrt_gpu.py, where there is one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.runtime import emulated_tensorrt as emulated
from unifiedmllm_ros.errors import EngineFileError, GpuMemoryError, InstructionError
from unifiedmllm_ros.runtime.engine import Row
from unifiedmllm_ros.runtime.engine_cache import EngineCache
from unifiedmllm_ros.runtime.tensorrt_engine import TensorrtEngine
from unifiedmllm_ros.runtime.tensorrt_plans import Plans, with_less_memory

from .conftest import HIDDEN, IMAGE_SIZE, VISUAL_TOKENS, TinyModel
from .steps import check_steps_over_several

CAPACITY = 96


def engine_of(tiny: TinyModel, folder: Path, cuda: emulated.HostCuda) -> TensorrtEngine:
    graphs = tiny.folder / 'onnx'
    cache = EngineCache.open(folder)
    plans = Plans(graphs, cache, '8.9', print, emulated.library(cuda), CAPACITY)
    for name in plans.manifest.graphs:
        file = graphs / f'{name}.onnx'
        cache.store(plans.key(name), emulated.plan(file, name, plans.profile, HIDDEN))
    return TensorrtEngine(plans, cuda)


@pytest.fixture
def cuda() -> emulated.HostCuda:
    return emulated.HostCuda()


@pytest.fixture
def engine(tiny: TinyModel, tmp_path: Path, cuda: emulated.HostCuda) -> TensorrtEngine:
    return engine_of(tiny, tmp_path, cuda)


def test_info_says_what_runs(engine: TensorrtEngine) -> None:
    assert engine.info.backend == 'tensorrt 10.15'
    assert (engine.info.device, engine.info.max_length) == ('cuda:0', CAPACITY)
    assert engine.info.state == 'from the cache'


@pytest.mark.parametrize('cuts', [[9], [1, 8], [1] * 9, [2, 3, 1, 3]])
def test_any_cut_of_a_sequence_gives_the_logits_of_torch(
    tiny: TinyModel, engine: TensorrtEngine, cuts: list[int]
) -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 1000, 9).tolist()
    features = rng.normal(size=(VISUAL_TOKENS, HIDDEN)).astype(np.float32)
    cache, logits, rest = engine.new_cache(), [], list(ids)
    engine.step([7], cache)
    for place, cut in enumerate(cuts):
        logits.append(engine.step(rest[:cut], cache, features if place == 0 else None))
        rest = rest[cut:]
    expected = tiny.reference(features, [7], ids)[1 + VISUAL_TOKENS :]
    assert np.allclose(np.concatenate(logits), expected, atol=1e-4)
    assert cache.length == 10 + VISUAL_TOKENS


def test_more_than_one_run_takes_is_cut(tiny: TinyModel, engine: TensorrtEngine) -> None:
    ids = np.random.default_rng(1).integers(0, 1000, 94).tolist()  # the profile has 72
    expected = tiny.reference(None, ids)
    assert np.allclose(engine.step(ids, engine.new_cache()), expected, atol=1e-3)
    last = engine.step(ids, engine.new_cache(), last=2)
    assert np.allclose(last, expected[-2:], atol=1e-3)


def test_forks_share_their_buffers(
    tiny: TinyModel, engine: TensorrtEngine, cuda: emulated.HostCuda
) -> None:
    cache = engine.new_cache()
    engine.step([1, 2, 3], cache)
    blocks = len(cuda.blocks)
    fork = cache.fork()
    there = engine.step([4], fork)
    other = engine.step([5], cache)
    assert len(cuda.blocks) == blocks  # neither is in the other's way
    again = fork.fork()
    again.truncate(3)
    assert np.allclose(engine.step([4], again), there, atol=1e-4)
    assert np.allclose(other, tiny.reference(None, [1, 2, 3, 5])[-1:], atol=1e-4)
    engine.step([6] * (CAPACITY - 5), cache)  # there is no room for it beside the others
    assert len(cuda.blocks) > blocks
    expected = tiny.reference(None, [1, 2, 3, 4, 7])
    assert np.allclose(engine.step([7], fork), expected[-1:], atol=1e-4)
    del cache
    assert len(cuda.blocks) == blocks  # what nobody holds is given back


def test_a_step_over_more_than_a_run_takes_is_cut(tiny: TinyModel, engine: TensorrtEngine) -> None:
    check_steps_over_several(tiny, engine, lengths=(20, 40, 33, 1), seed=3)


def test_sequences_that_do_not_fit_one_buffer_part(
    tiny: TinyModel, engine: TensorrtEngine, cuda: emulated.HostCuda
) -> None:
    blocks = len(cuda.blocks)
    check_steps_over_several(tiny, engine, lengths=(60, 50, 40), seed=4)
    assert len(cuda.blocks) > blocks


def test_long_beginnings_that_are_alike_are_cut_like_others(
    tiny: TinyModel, engine: TensorrtEngine
) -> None:
    rng = np.random.default_rng(5)
    base, alike = (rng.integers(0, 1000, length).tolist() for length in (30, 54))
    cache = engine.new_cache()
    engine.step(base, cache)
    rows = [Row([*alike, last], cache.fork(), last=1) for last in (7, 8, 9)]
    for last, said in zip((7, 8, 9), engine.step_all(rows), strict=True):
        expected = tiny.reference(None, [*base, *alike, last])[-1:]
        assert np.allclose(said, expected, atol=1e-3)


def test_decoding_steps_are_replayed_as_a_graph(
    tiny: TinyModel, engine: TensorrtEngine, cuda: emulated.HostCuda
) -> None:
    cache, ids = engine.new_cache(), [3, 1, 4, 1, 5, 9]
    rows = np.concatenate([engine.step([token], cache) for token in ids])
    assert (len(cuda.graphs), cuda.launched) == (1, len(ids) - 1)
    assert np.allclose(rows, tiny.reference(None, ids), atol=1e-4)
    # Another conversation has its own graph, and the first one's stays right.
    other = engine.new_cache()
    for token in ids[:3]:
        engine.step([token], other)
    assert len(cuda.graphs) == 2
    assert np.allclose(engine.step([2], cache), tiny.reference(None, [*ids, 2])[-1:], atol=1e-4)


def test_too_long_a_sequence_never_reaches_the_gpu(
    engine: TensorrtEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = engine.new_cache()
    engine.step([1] * 90, cache)
    monkeypatch.setattr(emulated.Context, 'execute_async_v3', None)
    with pytest.raises(InstructionError, match='97 positions'):
        engine.step([1] * 7, cache)
    with pytest.raises(ValueError, match='25 visual tokens'):
        engine.step([1], engine.new_cache(), np.zeros((25, HIDDEN), np.float32))


def test_numbers_that_are_not_finite_do_not_stay_in_the_cache(engine: TensorrtEngine) -> None:
    clean = engine.new_cache()
    engine.step([1, 2], clean)
    spoilt = clean.fork()
    nan = np.full((VISUAL_TOKENS, HIDDEN), np.nan, np.float32)
    assert np.isnan(engine.step([3], spoilt, nan)).all()
    spoilt.truncate(2)
    assert np.isfinite(engine.step([3], spoilt)).all()
    assert np.isfinite(engine.step([3], clean)).all()


def test_pictures_of_several_cameras_go_together(tiny: TinyModel, engine: TensorrtEngine) -> None:
    pixels = np.random.default_rng(0).random((6, 3, *IMAGE_SIZE), np.float32)
    together = engine.encode_images(pixels)  # a batch of four and one of two
    alone = np.stack([engine.encode_image(image[None]) for image in pixels])
    assert together.shape == (6, VISUAL_TOKENS, HIDDEN)
    assert np.allclose(together, alone, atol=1e-5)


def test_without_enough_memory_conversations_get_shorter_aloud(
    tiny: TinyModel, tmp_path: Path
) -> None:
    said: list[str] = []

    def attempt(capacity: int) -> int:
        if capacity > 300:
            raise GpuMemoryError(f'out of GPU memory with {capacity}')
        return capacity

    assert with_less_memory(attempt, 1024, said.append) == 256
    assert [words.split()[-2] for words in said] == ['512', '256']
    with pytest.raises(GpuMemoryError, match='with 400'):
        with_less_memory(attempt, 400, said.append)
    with pytest.raises(GpuMemoryError):
        engine_of(tiny, tmp_path, emulated.HostCuda(limit=10_000))


def test_a_plan_that_the_library_refuses_is_named(tiny: TinyModel, tmp_path: Path) -> None:
    cuda = emulated.HostCuda()
    cache = EngineCache.open(tmp_path)
    plans = Plans(tiny.folder / 'onnx', cache, '8.9', print, emulated.library(cuda), CAPACITY)
    cache.store(plans.key('vision'), b'of another version')
    with pytest.raises(EngineFileError, match=r'vision: tensorrt 10\.15 does not take'):
        TensorrtEngine(plans, cuda)
