"""Which NVIDIA GPUs and which driver a machine has, asked of the driver itself."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Final

_DRIVER: Final = 'libcuda.so.1'
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18  # CUdevice_attribute


@dataclass(frozen=True)
class Gpu:
    """index: of CUDA. capability: (8, 9) and so on. memory: bytes. integrated: shares the
    processor's memory, as on Jetson. driver: newest CUDA that the driver runs, as (12, 8)."""

    index: int
    name: str
    capability: tuple[int, int]
    memory: int
    integrated: bool
    driver: tuple[int, int]

    @property
    def capability_name(self) -> str:
        """'8.9' and so on."""
        return '.'.join(map(str, self.capability))


def gpus(library: Any = None) -> tuple[Gpu, ...]:
    """Return the GPUs in CUDA's order; none without a driver.

    library: of the driver; by default the one of this machine.
    """
    try:
        cuda = ctypes.CDLL(_DRIVER) if library is None else library
    except OSError:
        return ()
    version, count = ctypes.c_int(), ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDriverGetVersion(ctypes.byref(version)):
        return ()
    if cuda.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    driver = divmod(version.value, 1000)
    return tuple(_gpu(cuda, index, (driver[0], driver[1] // 10)) for index in range(count.value))


def _gpu(cuda: Any, index: int, driver: tuple[int, int]) -> Gpu:
    device = ctypes.c_int()
    cuda.cuDeviceGet(ctypes.byref(device), index)
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    major, minor, integrated = (
        _attribute(cuda, number, device) for number in (_MAJOR, _MINOR, _INTEGRATED)
    )
    return Gpu(index, name.value.decode(), (major, minor), memory.value, bool(integrated), driver)


def _attribute(cuda: Any, number: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(value), number, device)
    return value.value
