"""GPUs that run out of memory or have an old driver: at the build, at the start, at a question."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.runtime import emulated_tensorrt as emulated
from unifiedmllm_ros.errors import BackendError, EngineFileError, GpuMemoryError, ModelError
from unifiedmllm_ros.model.protocol import Conversation, Question
from unifiedmllm_ros.runtime.backends import Machine, next_engine
from unifiedmllm_ros.runtime.gpu import Gpu
from unifiedmllm_ros.runtime.manifest import Manifest
from unifiedmllm_ros.runtime.onnx_engine import OnnxEngine
from unifiedmllm_ros.runtime.tensorrt_build import BuildJob, build
from unifiedmllm_ros.runtime.tensorrt_library import Library
from unifiedmllm_ros.runtime.tensorrt_session import Session
from unifiedmllm_ros.runtime.unified import UnifiedModel

from .conftest import IMAGE_SIZE, TinyModel

QUESTION = Conversation('find the red mug')
RTX = Gpu(0, 'RTX 4090', (8, 9), 24 << 30, False, (13, 0))
IMAGE = np.random.default_rng(0).integers(0, 255, (*IMAGE_SIZE, 3), np.uint8)


class ShortOfMemory:
    """An engine of a GPU whose memory runs out at some call."""

    def __init__(self, engine: OnnxEngine, call: str, after: int) -> None:
        self._engine, self._call, self._left = engine, call, after

    def __getattr__(self, name: str) -> Any:
        if name == self._call:
            self._left -= 1
            if self._left < 0:
                raise GpuMemoryError('the decoder graph: out of GPU memory')
        return getattr(self._engine, name)


def model_of(tiny: TinyModel, call: str, after: int, lower: Any) -> UnifiedModel:
    whole = OnnxEngine.load(tiny.folder / 'onnx', threads=1)
    engine: Any = ShortOfMemory(whole, call, after)
    return UnifiedModel(engine, tiny.processor, max_tokens=48, speculate=False, lower=lower)


def answer(model: UnifiedModel, features: Any) -> str:
    return ''.join(chunk.text for chunk in model.stream(features, QUESTION))


@pytest.mark.parametrize(('call', 'after'), [('encode_images', 0), ('step_all', 1)])
def test_out_of_memory_at_a_question_goes_on_with_the_next_engine(
    tiny: TinyModel, model: UnifiedModel, call: str, after: int
) -> None:
    heard: list[str] = []

    def lower(failed: object, error: GpuMemoryError) -> OnnxEngine:
        heard.append(str(error))
        return OnnxEngine.load(tiny.folder / 'onnx', threads=1)

    short = model_of(tiny, call, after, lower)
    features = short.encode(IMAGE)
    expected = answer(model, model.encode(IMAGE))
    assert answer(short, features) == expected
    # The frame that the first engine saw is asked about again without it.
    assert answer(short, features) == expected
    assert heard == ['the decoder graph: out of GPU memory']


@pytest.mark.parametrize('after', [1, 2])
def test_questions_asked_together_go_on_with_the_next_engine(
    tiny: TinyModel, model: UnifiedModel, after: int
) -> None:
    short = model_of(
        tiny, 'step_all', after, lambda *_: OnnxEngine.load(tiny.folder / 'onnx', threads=1)
    )
    short._engine._engine._info = replace(short._engine.info, shares_prefixes=False)
    questions = [QUESTION, Conversation('how many bowls?')]
    expected = [
        ''.join(chunk.text for chunk in model.stream(model.encode(IMAGE), question))
        for question in questions
    ]
    features, said = short.encode(IMAGE), ['', '']
    for piece in short.stream_all([Question(features, question) for question in questions]):
        assert piece.error is None
        said[piece.place] += piece.chunk.text if piece.chunk else ''
    assert said == expected
    assert short.info.backend.startswith('onnxruntime')


def test_a_half_said_answer_is_no_others_to_end(tiny: TinyModel) -> None:
    short = model_of(
        tiny, 'step_all', 3, lambda *_: OnnxEngine.load(tiny.folder / 'onnx', threads=1)
    )
    features, said = short.encode(IMAGE), []
    with pytest.raises(GpuMemoryError):
        said.extend(chunk.text for chunk in short.stream(features, QUESTION))
    assert answer(short, features)


def test_an_engine_that_was_named_fails(tiny: TinyModel) -> None:
    with pytest.raises(GpuMemoryError):
        model_of(tiny, 'encode_images', 0, None).encode(IMAGE)
    with pytest.raises(GpuMemoryError):
        model_of(tiny, 'encode_images', 0, lambda *_: None).encode(IMAGE)


def test_what_comes_next_says_so(tiny: TinyModel) -> None:
    said: list[str] = []
    machine = Machine((RTX,), ('tensorrt',), ('CPUExecutionProvider',), False)
    info = OnnxEngine.load(tiny.folder / 'onnx', threads=1).info
    error = GpuMemoryError('out of GPU memory')
    failed = SimpleNamespace(backend='tensorrt_rtx 1.7')
    engine = next_engine(tiny.folder, 'auto', 1, failed, error, said.append, machine)
    assert engine.info.backend == info.backend
    assert engine.info.state == 'instead of tensorrt, which ran out of GPU memory'
    assert said == ['tensorrt: out of GPU memory; going on with onnxruntime instead']
    # Nothing comes after the processor.
    assert next_engine(tiny.folder, 'auto', 1, info, error, said.append, machine) is None


def failing_build(words: str) -> Library:
    """TensorRT that takes every graph, builds none and logs some words."""
    library = Library(SimpleNamespace(), 'tensorrt', '10.15')

    class Config:
        def add_optimization_profile(self, profile: Any) -> int:
            return 0

    class Builder:
        def __init__(self, logger: Any) -> None:
            self.config = Config()

        def create_network(self, flags: int) -> Any:
            return SimpleNamespace()

        def create_builder_config(self) -> Config:
            return self.config

        def create_optimization_profile(self) -> Any:
            return SimpleNamespace(set_shape=lambda *_: None)

        def build_serialized_network(self, network: Any, config: Any) -> None:
            library.said.append(words)

    parser = SimpleNamespace(parse=lambda *_: True)
    vars(library.module).update(
        Builder=Builder,
        OnnxParser=lambda *_: parser,
        NetworkDefinitionCreationFlag=SimpleNamespace(),
        ILogger=object,
        IProgressMonitor=object,
        Logger=SimpleNamespace(Severity=SimpleNamespace(ERROR=1, INTERNAL_ERROR=0)),
    )
    return library


@pytest.mark.parametrize(
    ('words', 'error', 'said'),
    [
        ('Error Code 2: OutOfMemory (Requested size was 99 bytes)', GpuMemoryError, 'while build'),
        ('Error Code 4: no implementation for a node', BackendError, 'cannot build it'),
    ],
)
def test_builds_that_fail_say_why(
    tiny: TinyModel, words: str, error: type[Exception], said: str
) -> None:
    folder = tiny.folder / 'onnx'
    job = BuildJob(folder / 'vision.onnx', 'vision', Manifest.load(folder), ('8.9',))
    with pytest.raises(error, match=said):
        build(job, failing_build(words), print)


class Refusing:
    """A module that reads no engine back, for a reason."""

    def __init__(self, words: str, bits: int = 0) -> None:
        said = self.said = []
        diagnostics = SimpleNamespace(OLD_CUDA=1, INSUFFICIENT_GPU_MEMORY=2, MALFORMED_ENGINE=4)

        class Runtime:
            def __init__(self, logger: Any) -> None:
                pass

            def deserialize_cuda_engine(self, plan: bytes) -> None:
                said.append(words)

            def get_engine_validity(self, plan: bytes) -> tuple[int, int]:
                return 0, bits

        self.module = SimpleNamespace(
            Runtime=Runtime,
            ILogger=object,
            EngineInvalidityDiagnostics=diagnostics,
            Logger=SimpleNamespace(Severity=SimpleNamespace(ERROR=1, INTERNAL_ERROR=0)),
        )

    @property
    def library(self) -> Library:
        return Library(self.module, 'tensorrt_rtx', '1.7', self.said)


@pytest.mark.parametrize(
    ('words', 'bits', 'error', 'said'),
    [
        ('CUDA driver version is insufficient', 0, BackendError, 'driver is too old'),
        ('not valid', 1, BackendError, 'OLD_CUDA.*newer driver'),
        ('not valid', 2, GpuMemoryError, 'while loading'),
        ('out of memory', 0, GpuMemoryError, 'while loading'),
        ('built for another GPU', 4, EngineFileError, 'MALFORMED_ENGINE.*--rebuild'),
    ],
)
def test_engines_that_are_not_read_back_say_why(
    words: str, bits: int, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        Session('decoder', b'plan', Refusing(words, bits).library, emulated.HostCuda())


@pytest.mark.parametrize(
    ('words', 'error'), [('CUDA error: out of memory', GpuMemoryError), ('other', ModelError)]
)
def test_runs_that_fail_say_why(
    tiny: TinyModel,
    words: str,
    error: type[Exception],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = emulated.HostCuda()
    library = emulated.library(cuda)
    plan = emulated.plan(tiny.folder / 'onnx' / 'vision.onnx', 'vision', None, 0)
    session = Session('vision', plan, library, cuda)

    def fails(context: object, stream: int) -> bool:
        library.said.append(words)
        return False

    monkeypatch.setattr(emulated.Context, 'execute_async_v3', fails)
    with pytest.raises(error, match=f'vision.*{words}'):
        session.run(0, {'pixels': (1, 3, *IMAGE_SIZE)})
