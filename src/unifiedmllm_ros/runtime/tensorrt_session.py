"""Engines of TensorRT as they run: contexts by profile, memory of the device, one stream."""

from __future__ import annotations

from typing import Any

import numpy as np

from unifiedmllm_ros.errors import BackendError, EngineFileError, GpuMemoryError, ModelError
from unifiedmllm_ros.runtime.cuda import Cuda
from unifiedmllm_ros.runtime.onnx_session import no_memory
from unifiedmllm_ros.runtime.tensorrt_library import Library


class Slot:
    """One input or output: memory of the device, and a pinned array of the host beside it.

    Both have room for `size` elements; a step uses as many as its shape has.
    """

    def __init__(self, cuda: Cuda, size: int, dtype: Any) -> None:
        self._cuda = cuda
        self.host = cuda.pinned((size,), dtype)
        self.address = cuda.malloc(max(self.host.nbytes, 1))

    def upload(self, values: np.ndarray, stream: int) -> None:
        """Copy values to the device."""
        part = self.host[: values.size]
        part[:] = values.reshape(-1)
        if part.size:
            self._cuda.upload(self.address, part, stream)

    def download(self, shape: tuple[int, ...], stream: int) -> np.ndarray:
        """Copy from the device and wait; returns an array of its own."""
        part = self.host[: int(np.prod(shape))]
        self._cuda.download(part, self.address, stream)
        self._cuda.synchronise(stream)
        return part.reshape(shape).copy()

    def free(self) -> None:
        """Give the device's memory back."""
        self._cuda.free(self.address)


class Session:
    """An engine that was read back, with a context for each of its profiles."""

    def __init__(self, name: str, plan: bytes, library: Library, cuda: Cuda) -> None:
        """Read an engine back.

        Raises EngineFileError for one that this GPU or library does not take, BackendError for a
        driver that is too old, GpuMemoryError where it does not fit.
        """
        self.name, self.library, self.cuda = name, library, cuda
        self.stream = cuda.stream()
        self._logger = library.logger()
        self._runtime = library.module.Runtime(self._logger)
        self.engine = self._runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise self._refusal(plan)
        self.contexts = [
            self._context(index) for index in range(self.engine.num_optimization_profiles)
        ]

    def names(self) -> tuple[str, ...]:
        """Return the names of all inputs and outputs."""
        return tuple(
            self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)
        )

    def bind(self, profile: int, addresses: dict[str, int]) -> None:
        """Set where a profile's inputs and outputs lie."""
        for name, address in addresses.items():
            if not self.contexts[profile].set_tensor_address(name, address):
                raise ModelError(f'{self.name}: no address for {name}: {self._words()}')

    def run(self, profile: int, shapes: dict[str, tuple[int, ...]]) -> None:
        """Enqueue a run with inputs of these shapes."""
        context = self.contexts[profile]
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise ModelError(
                    f'{self.name}: {name} of shape {shape} is outside the profile: {self._words()}'
                )
        self.enqueue(profile)

    def enqueue(self, profile: int) -> None:
        """Enqueue a run with the shapes that are set."""
        if not self.contexts[profile].execute_async_v3(self.stream):
            raise self._failure('failed')

    def _context(self, profile: int) -> Any:
        context = None
        if self.library.rtx and hasattr(self.engine, 'create_runtime_config'):
            # It compiles kernels as shapes come up, and captures its own graphs around that.
            config = self.engine.create_runtime_config()
            config.cuda_graph_strategy = self.library.module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            context = self.engine.create_execution_context(config)
        else:
            context = self.engine.create_execution_context()
        if context is None:
            raise self._failure('has no execution context')
        if not context.set_optimization_profile_async(profile, self.stream):
            raise self._failure(f'does not take its profile {profile}')
        return context

    def _failure(self, what: str) -> Exception:
        words = self._words()
        if no_memory(RuntimeError(words)) or 'OutOfMemory' in words:
            return GpuMemoryError(f'{self.name}: out of GPU memory ({words})')
        return ModelError(f'{self.name} {what} in TensorRT: {words}')

    def _refusal(self, plan: bytes) -> Exception:
        """Say why an engine was not read back, in the words of TensorRT for RTX where it can."""
        words = self._words()
        diagnosis = ''
        if hasattr(self._runtime, 'get_engine_validity'):
            _, bits = self._runtime.get_engine_validity(plan)
            known = self.library.module.EngineInvalidityDiagnostics
            diagnosis = ', '.join(
                word for word in dir(known) if word.isupper() and bits & int(getattr(known, word))
            )
            self.library.said.clear()
        said = f'{words} {diagnosis}'
        if no_memory(RuntimeError(said)) or 'INSUFFICIENT_GPU_MEMORY' in said:
            return GpuMemoryError(f'{self.name}: out of GPU memory while loading ({said})')
        if 'OLD_CUDA' in said or 'driver version is insufficient' in said:
            return BackendError(
                f'{self.name}: the NVIDIA driver is too old for {self.library.name} '
                f'{self.library.version} ({said}); install a newer driver, or choose the backend '
                'onnxruntime'
            )
        return EngineFileError(
            f'{self.name}: {self.library.name} {self.library.version} does not take the engine '
            f'({said}); run unifiedmllm export --to tensorrt --rebuild on this machine'
        )

    def _words(self) -> str:
        return self.library.last_words()
