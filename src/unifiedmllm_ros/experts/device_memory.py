"""What memory devices have, and whether an error is a lack of it; imports no framework."""

from __future__ import annotations

import gc
import importlib
import math
import sys
from enum import Enum
from typing import Any

import psutil

from unifiedmllm_ros.errors import OutOfMemoryError, UnifiedMLLMError

_MIB = 2**20
# Of the memory a machine has, the rest is for the model, the camera and everybody else.
_CPU_SHARE, _GPU_SHARE = 0.75, 0.9


class Offload(Enum):
    """How the weights of a pipeline share a GPU: faster first, smaller last."""

    RESIDENT = 'resident'
    MODEL = 'model'
    GROUP = 'group'
    SEQUENTIAL = 'sequential'


def offload_policy(weights_mib: float, largest_mib: float, free_mib: float) -> Offload:
    """Return how a pipeline should use a GPU with so much free memory.

    weights_mib: of all its networks; largest_mib: of the largest one. Resident takes one and a half
    times the weights and 4 GiB for what is computed; one network at a time (`model`) the same for
    the largest; leaf by leaf with streams (`group`) half of the largest and 1 GiB; `sequential` is
    what is left.
    """
    if free_mib >= 1.5 * weights_mib + 4096:
        return Offload.RESIDENT
    if free_mib >= 1.5 * largest_mib + 2048:
        return Offload.MODEL
    if free_mib >= 0.5 * largest_mib + 1024:
        return Offload.GROUP
    return Offload.SEQUENTIAL


def device_key(device: str) -> str:
    """Return the one name of a device: `cuda` is `cuda:0`, `auto` the first GPU or the CPU."""
    if device == 'auto':
        device = 'cuda' if _gpu(needed=True) is not None else 'cpu'
    return 'cuda:0' if device == 'cuda' else device


def free_mib(device: str) -> float:
    """Return the free memory of a device in MiB; of a GPU without torch, infinity."""
    if device_key(device) == 'cpu':
        return float(psutil.virtual_memory().available) / _MIB
    cuda = _gpu()
    return math.inf if cuda is None else float(cuda.mem_get_info(device_key(device))[0]) / _MIB


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or what caused it, is a lack of memory, in whatever library."""
    while error is not None:
        code = error.code if isinstance(error, UnifiedMLLMError) else ''
        if isinstance(error, MemoryError) or code == OutOfMemoryError.code or _of_torch(error):
            return True
        error = error.__cause__
    return False


def _of_torch(error: BaseException) -> bool:
    torch = sys.modules.get('torch')
    if torch is None or not isinstance(error, RuntimeError):
        return False
    kind = getattr(torch, 'OutOfMemoryError', None)
    # On a CPU it is a plain RuntimeError.
    return (kind is not None and isinstance(error, kind)) or (
        "DefaultCPUAllocator: can't allocate memory" in str(error)
    )


def default_budget(device: str) -> float:
    """Return what experts may take of a device in MiB; of a GPU without torch, infinity."""
    if device == 'cpu':
        return _CPU_SHARE * float(psutil.virtual_memory().total) / _MIB
    cuda = _gpu(needed=True)
    return math.inf if cuda is None else _GPU_SHARE * float(cuda.mem_get_info(device)[1]) / _MIB


def _gpu(needed: bool = False) -> Any:
    """torch.cuda where there is a GPU and torch is loaded, or can be and is needed; else None."""
    if needed:
        try:
            importlib.import_module('torch')
        except ImportError:
            return None
    cuda = getattr(sys.modules.get('torch'), 'cuda', None)
    return cuda if cuda is not None and cuda.is_available() else None


def empty_caches() -> None:
    """Give back what Python and torch hold for later."""
    gc.collect()
    cuda = _gpu()
    if cuda is not None:
        cuda.empty_cache()
