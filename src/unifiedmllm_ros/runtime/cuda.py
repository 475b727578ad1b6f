"""The few calls of the CUDA runtime that an engine needs, by ctypes: no torch, no new library.

Every call that fails raises: GpuMemoryError for memory, BackendError for a driver that is too old,
ModelError for the rest.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from unifiedmllm_ros.errors import BackendError, GpuMemoryError, ModelError

_NAMES: Final = ('libcudart.so.13', 'libcudart.so.12', 'libcudart.so')
_OUT_OF_MEMORY: Final = 2
_DRIVER_TOO_OLD: Final = (35, 803)  # insufficient driver, version mismatch
_NO_DEVICE: Final = (38, 100)
_TO_DEVICE, _TO_HOST, _ON_DEVICE = 1, 2, 3
_RELAXED_CAPTURE: Final = 2


class Cuda(Protocol):
    """What engines use of CUDA. Addresses and handles are integers."""

    def malloc(self, size: int) -> int:
        """Return the address of `size` zeroed bytes of the device."""
        ...

    def free(self, address: int) -> None:
        """Give device memory back."""
        ...

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Return an array in page-locked memory of the host, for copies beside computation."""
        ...

    def stream(self) -> int:
        """Return a new stream."""
        ...

    def synchronise(self, stream: int) -> None:
        """Wait for a stream."""
        ...

    def upload(self, address: int, values: np.ndarray, stream: int) -> None:
        """Copy an array to the device."""
        ...

    def download(self, values: np.ndarray, address: int, stream: int) -> None:
        """Copy from the device into an array."""
        ...

    def copy_rows(
        self, target: int, source: int, pitch: int, width: int, rows: int, stream: int
    ) -> None:
        """Copy the first `width` bytes of each of `rows` rows of `pitch` bytes, on the device."""
        ...

    def capture(self, stream: int) -> Any:
        """Context manager: what is enqueued meanwhile becomes a graph, whose handle it yields
        in a list of one once it ends."""
        ...

    def launch(self, graph: int, stream: int) -> None:
        """Run a captured graph."""
        ...

    def free_memory(self) -> int:
        """Return the bytes of device memory that are free."""
        ...


class CudaRuntime:
    """Cuda by libcudart."""

    def __init__(self, library: Any = None) -> None:
        """Open the library; BackendError where there is none or no GPU answers."""
        self._library = _open() if library is None else library
        count = ctypes.c_int()
        self._call('cudaGetDeviceCount', ctypes.byref(count))
        self._pinned: list[int] = []

    def malloc(self, size: int) -> int:
        """Return the address of `size` zeroed bytes of the device."""
        address = ctypes.c_void_p()
        self._call('cudaMalloc', ctypes.byref(address), ctypes.c_size_t(size))
        # Memory of earlier programs may hold NaN, which a mask does not keep out.
        self._call('cudaMemset', address, 0, ctypes.c_size_t(size))
        return int(address.value or 0)

    def free(self, address: int) -> None:
        """Give device memory back."""
        self._call('cudaFree', ctypes.c_void_p(address))

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Return a page-locked array."""
        kind = np.dtype(dtype)
        size = max(int(np.prod(shape)) * kind.itemsize, 1)
        address = ctypes.c_void_p()
        self._call('cudaHostAlloc', ctypes.byref(address), ctypes.c_size_t(size), 0)
        self._pinned.append(int(address.value or 0))
        buffer = (ctypes.c_char * size).from_address(int(address.value or 0))
        return np.frombuffer(buffer, kind, int(np.prod(shape))).reshape(shape)

    def stream(self) -> int:
        """Return a new stream that does not wait for the default one."""
        handle = ctypes.c_void_p()
        self._call('cudaStreamCreateWithFlags', ctypes.byref(handle), 1)
        return int(handle.value or 0)

    def synchronise(self, stream: int) -> None:
        """Wait for a stream."""
        self._call('cudaStreamSynchronize', ctypes.c_void_p(stream))

    def upload(self, address: int, values: np.ndarray, stream: int) -> None:
        """Copy an array to the device."""
        self._copy(address, values.ctypes.data, values.nbytes, _TO_DEVICE, stream)

    def download(self, values: np.ndarray, address: int, stream: int) -> None:
        """Copy from the device into an array."""
        self._copy(values.ctypes.data, address, values.nbytes, _TO_HOST, stream)

    def copy_rows(
        self, target: int, source: int, pitch: int, width: int, rows: int, stream: int
    ) -> None:
        """Copy the beginnings of rows, on the device."""
        size = ctypes.c_size_t
        self._call(
            'cudaMemcpy2DAsync',
            ctypes.c_void_p(target),
            size(pitch),
            ctypes.c_void_p(source),
            size(pitch),
            size(width),
            size(rows),
            _ON_DEVICE,
            ctypes.c_void_p(stream),
        )

    @contextmanager
    def capture(self, stream: int) -> Iterator[list[int]]:
        """Capture what is enqueued into a graph."""
        handle, graph, captured = ctypes.c_void_p(stream), ctypes.c_void_p(), list[int]()
        self._call('cudaStreamBeginCapture', handle, _RELAXED_CAPTURE)
        try:
            yield captured
        finally:
            self._call('cudaStreamEndCapture', handle, ctypes.byref(graph))
        executable = ctypes.c_void_p()
        self._call('cudaGraphInstantiate', ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        self._call('cudaGraphDestroy', graph)
        captured.append(int(executable.value or 0))

    def launch(self, graph: int, stream: int) -> None:
        """Run a captured graph."""
        self._call('cudaGraphLaunch', ctypes.c_void_p(graph), ctypes.c_void_p(stream))

    def free_memory(self) -> int:
        """Return the bytes of device memory that are free."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call('cudaMemGetInfo', ctypes.byref(free), ctypes.byref(total))
        return free.value

    def _copy(self, target: int, source: int, size: int, kind: int, stream: int) -> None:
        self._call(
            'cudaMemcpyAsync',
            ctypes.c_void_p(target),
            ctypes.c_void_p(source),
            ctypes.c_size_t(size),
            kind,
            ctypes.c_void_p(stream),
        )

    def _call(self, name: str, *arguments: Any) -> None:
        code = int(getattr(self._library, name)(*arguments))
        if code:
            raise cuda_error(name, code)


def cuda_error(call: str, code: int) -> Exception:
    """Return the error of a CUDA call, by its cudaError_t."""
    if code == _OUT_OF_MEMORY:
        return GpuMemoryError(
            f'{call}: out of GPU memory; end other programs on the GPU, choose a smaller model, '
            'int4 weights or a shorter max_length'
        )
    if code in _DRIVER_TOO_OLD:
        return BackendError(
            f'{call}: the NVIDIA driver is too old for this CUDA (error {code}); install a newer '
            'driver, or choose the backend onnxruntime'
        )
    if code in _NO_DEVICE:
        return BackendError(f'{call}: no NVIDIA GPU answers; choose the backend onnxruntime')
    return ModelError(f'{call} failed with CUDA error {code}; see the log of the driver (dmesg)')


def _open() -> Any:
    for name in (*_NAMES, *map(str, _wheels())):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise BackendError(
        f'the CUDA runtime ({_NAMES[0]}) is not installed; run: pip install nvidia-cuda-runtime, '
        'or choose the backend onnxruntime'
    )


def _wheels() -> list[Path]:
    """Where NVIDIA's wheels put the library."""
    import importlib.util

    spec = importlib.util.find_spec('nvidia')
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    return [file for folder in folders for file in sorted(folder.glob('**/libcudart.so.*'))]
