"""Whether a model fits before it is loaded."""

from __future__ import annotations

from unifiedmllm_ros.errors import ModelError
from unifiedmllm_ros.runtime.manifest import Manifest

_WIDENED = 2.0  # weights stored as float16 and computed with as float32
_WORKSPACE = 64 << 20


def cache_bytes(manifest: Manifest, positions: int) -> int:
    """Return the bytes of keys and values of so many positions."""
    element = 4 if manifest.cache == 'fp32' else 2
    return 2 * manifest.layers * manifest.kv_heads * manifest.head_dim * positions * element


def needed_bytes(manifest: Manifest, positions: int) -> int:
    """Estimate what a model takes: weights, a cache of so many positions and a workspace."""
    widened = _WIDENED if manifest.precision == 'fp32' else 1.0
    weights = int(manifest.weights_bytes * widened)
    return weights + cache_bytes(manifest, positions) + _WORKSPACE


def check_main_memory(manifest: Manifest) -> None:
    """Raise ModelError where a model is larger than the memory that is free."""
    import psutil

    needed, free = needed_bytes(manifest, manifest.max_length), psutil.virtual_memory().available
    if needed > free:
        raise ModelError(
            f'{manifest.model} needs {gib(needed)} and {gib(free)} of memory are free; choose a '
            'smaller model, export it with int8 or int4 weights, or end other programs'
        )


def gib(size: float) -> str:
    """Return a size in words."""
    return f'{size / 2**30:.1f} GiB'
