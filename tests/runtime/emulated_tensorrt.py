"""TensorRT and CUDA played by ONNX Runtime and the memory of the host.

What an engine is told is carried out literally: addresses are dereferenced, shapes are checked
against the profile, outputs are written where they were bound. An error in any of that shows as
wrong numbers or a crash, as on a GPU.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from unifiedmllm_ros.errors import GpuMemoryError
from unifiedmllm_ros.runtime.tensorrt_build import DecoderProfile
from unifiedmllm_ros.runtime.tensorrt_library import Library

_TYPES = {
    'tensor(float)': np.float32,
    'tensor(int64)': np.int64,
    'tensor(float16)': np.float16,
    'tensor(bool)': np.bool_,
}


class HostCuda:
    """Cuda in the host's memory. limit: bytes after which malloc fails."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.blocks: dict[int, Any] = {}
        self.recording: list[Any] | None = None
        self.graphs: list[list[Any]] = []
        self.launched = 0

    def malloc(self, size: int) -> int:
        used = sum(map(ctypes.sizeof, self.blocks.values()))
        if self.limit is not None and used + size > self.limit:
            raise GpuMemoryError(f'cudaMalloc: out of GPU memory ({used} bytes used)')
        block = (ctypes.c_char * size)()
        self.blocks[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def free(self, address: int) -> None:
        del self.blocks[address]

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.zeros(shape, dtype)

    def stream(self) -> int:
        return 1

    def synchronise(self, stream: int) -> None:
        assert stream == 1

    def upload(self, address: int, values: np.ndarray, stream: int) -> None:
        ctypes.memmove(address, values.ctypes.data, values.nbytes)

    def download(self, values: np.ndarray, address: int, stream: int) -> None:
        ctypes.memmove(values.ctypes.data, address, values.nbytes)

    def copy_rows(
        self, target: int, source: int, pitch: int, width: int, rows: int, stream: int
    ) -> None:
        for row in range(rows):
            ctypes.memmove(target + row * pitch, source + row * pitch, width)

    @contextmanager
    def capture(self, stream: int) -> Iterator[list[int]]:
        captured: list[int] = []
        self.recording = []
        yield captured
        self.graphs.append(self.recording)
        self.recording = None
        captured.append(len(self.graphs))

    def launch(self, graph: int, stream: int) -> None:
        self.launched += 1
        for work in self.graphs[graph - 1]:
            work()

    def free_memory(self) -> int:
        return 1 << 30


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine, self.profile = engine, 0
        self.addresses: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.profile = profile
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in self.engine.tensors

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        limits = self.engine.profiles[self.profile].get(name) if self.engine.profiles else None
        if limits is not None:
            least, _, most = limits
            if not all(a <= x <= b for a, x, b in zip(least, shape, most, strict=True)):
                return False
        self.shapes[name] = tuple(shape)
        return True

    def execute_async_v3(self, stream: int) -> bool:
        work = self._work(dict(self.addresses), dict(self.shapes))
        if self.engine.cuda.recording is not None:
            self.engine.cuda.recording.append(work)
        else:
            work()
        return True

    def _work(self, addresses: dict[str, int], shapes: dict[str, tuple[int, ...]]) -> Any:
        def run() -> None:
            session = self.engine.session
            feeds = {}
            for value in session.get_inputs():
                shape = shapes.get(value.name) or tuple(
                    self.engine.capacity if isinstance(d, str) else d for d in value.shape
                )
                feeds[value.name] = _view(addresses[value.name], shape, value.type).copy()
            for value, array in zip(session.get_outputs(), session.run(None, feeds), strict=True):
                if value.name.startswith('present_'):
                    assert addresses[value.name] == addresses[value.name.removeprefix('present_')]
                _view(addresses[value.name], array.shape, value.type)[...] = array

        return run


class Engine:
    def __init__(self, plan: bytes, cuda: HostCuda) -> None:
        import onnxruntime

        facts = json.loads(plan)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        self.session = onnxruntime.InferenceSession(facts['file'], options)
        self.cuda, self.capacity, self.profiles = cuda, facts['capacity'], facts['profiles']
        values = (*self.session.get_inputs(), *self.session.get_outputs())
        self.tensors = [value.name for value in values]
        self.num_io_tensors = len(values)
        self.num_optimization_profiles = max(len(self.profiles), 1)

    def get_tensor_name(self, index: int) -> str:
        return self.tensors[index]

    def create_execution_context(self) -> Context:
        return Context(self)


def library(cuda: HostCuda) -> Library:
    """A library whose engines are what `plan` writes."""

    class Runtime:
        def __init__(self, logger: Any) -> None:
            pass

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            return Engine(plan, cuda) if plan.startswith(b'{') else None

    class ILogger:
        pass

    severity = SimpleNamespace(ERROR=1, INTERNAL_ERROR=0)
    module = SimpleNamespace(
        Runtime=Runtime, ILogger=ILogger, Logger=SimpleNamespace(Severity=severity)
    )
    return Library(module, 'tensorrt', '10.15')


def plan(file: Path, graph: str, profile: DecoderProfile | None, hidden: int) -> bytes:
    """What stands for an engine of a graph."""
    profiles = [] if profile is None or graph != 'decoder' else list(profile.shapes(hidden))
    capacity = profile.capacity if profile else 0
    return json.dumps({'file': str(file), 'capacity': capacity, 'profiles': profiles}).encode()


def _view(address: int, shape: tuple[int, ...], kind: str) -> np.ndarray:
    dtype = np.dtype(_TYPES[kind])
    size = int(np.prod(shape))
    buffer = (ctypes.c_char * (size * dtype.itemsize)).from_address(address)
    return np.frombuffer(buffer, dtype, size).reshape(shape)
