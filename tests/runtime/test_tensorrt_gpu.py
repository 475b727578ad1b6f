"""TensorRT on a GPU: the numbers of torch, whatever was built and however a sequence is cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unifiedmllm_ros.runtime.engine_cache import EngineCache
from unifiedmllm_ros.runtime.gpu import gpus
from unifiedmllm_ros.runtime.tensorrt_library import installed

from .conftest import HIDDEN, IMAGE_SIZE, VISUAL_TOKENS, TinyModel

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not gpus(), reason='needs an NVIDIA GPU with its driver'),
    pytest.mark.skipif(not installed(), reason='needs tensorrt or tensorrt_rtx'),
]


@pytest.fixture(scope='module', params=installed() or ('none',))
def engine(request: pytest.FixtureRequest, tiny: TinyModel, tmp_path_factory):
    from unifiedmllm_ros.runtime.tensorrt_engine import TensorrtEngine
    from unifiedmllm_ros.runtime.tensorrt_library import open_library

    cache = EngineCache.open(tmp_path_factory.mktemp('engines'))
    library = open_library(request.param)
    return TensorrtEngine.load(tiny.folder / 'onnx', cache=cache, library=library)


@pytest.mark.parametrize('cuts', [[9], [1] * 9, [2, 3, 1, 3]])
def test_logits_of_torch(tiny: TinyModel, engine, cuts: list[int]) -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 1000, 9).tolist()
    features = rng.normal(size=(VISUAL_TOKENS, HIDDEN)).astype(np.float32)
    cache, logits, rest = engine.new_cache(), [], list(ids)
    engine.step([7], cache)
    for place, cut in enumerate(cuts):
        logits.append(engine.step(rest[:cut], cache, features if place == 0 else None))
        rest = rest[cut:]
    expected = tiny.reference(features, [7], ids)[1 + VISUAL_TOKENS :]
    # Float32 products run in TF32 there.
    assert np.allclose(np.concatenate(logits), expected, atol=0.05)


def test_forks_and_long_conversations(engine) -> None:
    cache = engine.new_cache()
    for token in range(64):
        engine.step([token], cache)
    fork = cache.fork()
    there = engine.step([3], fork)
    engine.step([4], cache)
    fork.truncate(64)
    assert np.allclose(engine.step([3], fork), there, atol=0.01)


def test_images(engine) -> None:
    pixels = np.random.default_rng(0).random((3, 3, *IMAGE_SIZE), np.float32)
    together = engine.encode_images(pixels)
    alone = np.stack([engine.encode_image(image[None]) for image in pixels])
    assert np.allclose(together, alone, atol=0.01)


def test_a_second_start_takes_the_engines_from_the_cache(tiny: TinyModel, tmp_path: Path) -> None:
    from unifiedmllm_ros.runtime.tensorrt_engine import TensorrtEngine

    cache = EngineCache.open(tmp_path)
    states = [TensorrtEngine.load(tiny.folder / 'onnx', cache=cache).info.state for _ in range(2)]
    assert states == ['built', 'from the cache']
