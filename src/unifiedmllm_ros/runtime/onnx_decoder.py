"""The decoder graph on ONNX Runtime, and the cache it writes in place.

Keys and values lie in buffers that are input and output of the graph at once. Forks share them:
whoever would write over what another one still reads takes a copy of its own beginning first. That
happens once a question at most, never once a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from weakref import WeakSet

import numpy as np

from unifiedmllm_ros.runtime.engine import Array
from unifiedmllm_ros.runtime.manifest import Manifest
from unifiedmllm_ros.runtime.onnx_session import failed, onnxruntime

INPUTS: Final = ('input_ids', 'features', 'position', 'rows')
BLOCK: Final = 64
"""Positions by which buffers grow."""
_TYPES: Final = {'fp32': np.float32, 'fp16': np.float16}


class OnnxCache:
    """A sequence: the first `length` positions of buffers that others may share."""

    def __init__(self, buffers: Buffers, length: int = 0) -> None:
        self.buffers = buffers
        self._length = length
        buffers.users.add(self)

    @property
    def length(self) -> int:
        """Positions held."""
        return self._length

    @length.setter
    def length(self, value: int) -> None:
        self._length = value

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on."""
        if not 0 <= length <= self._length:
            raise ValueError(f'cannot truncate a cache of {self._length} positions to {length}')
        self._length = length

    def fork(self) -> OnnxCache:
        """Return a cache of the same sequence that goes its own way."""
        return OnnxCache(self.buffers, self._length)

    def moved(self, buffers: Buffers) -> None:
        """Go on in other buffers."""
        self.buffers.users.discard(self)
        self.buffers = buffers
        buffers.users.add(self)


class Buffers:
    """Keys and values of all layers, (1, heads, capacity, width) each, bound to the session.

    dirty: they may hold numbers behind the sequences that are not finite; masked, these would
    still spread, so that nothing more may be appended here.
    """

    def __init__(self, decoder: OnnxDecoder, rows: list[np.ndarray]) -> None:
        self.users: WeakSet[OnnxCache] = WeakSet()
        self.capacity = int(rows[0].shape[2])
        self.dirty = False
        self._rows = rows  # on the CPU they are the memory of the values
        runtime = decoder.runtime
        self._values = [
            runtime.OrtValue.ortvalue_from_numpy(array, decoder.device, 0) for array in rows
        ]
        self.binding = decoder.session.io_binding()
        self.binding.bind_output('logits', 'cpu')  # the first bound is the first of get_outputs()
        for name, value in zip(decoder.cache_names, self._values, strict=True):
            self.binding.bind_ortvalue_input(name, value)
            self.binding.bind_ortvalue_output(f'present_{name}', value)

    def host(self) -> list[np.ndarray]:
        """Return the buffers' content as arrays of the host."""
        if self._values[0].device_name() == 'cpu':
            return self._rows
        return [value.numpy() for value in self._values]


class OnnxDecoder:
    """Runs decoder.onnx."""

    def __init__(
        self, session: Any, manifest: Manifest, provider: str, runtime: Any = None
    ) -> None:
        self.session = session
        self.runtime = onnxruntime() if runtime is None else runtime
        self.device = provider
        layers = range(manifest.layers)
        self.cache_names = [f'{kind}_{layer}' for kind in ('keys', 'values') for layer in layers]
        self._manifest = manifest
        self._nothing = np.zeros((1, 0, manifest.hidden), np.float32)

    @staticmethod
    def names(manifest: Manifest) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the inputs and outputs that the graph must have."""
        kinds = ('keys', 'values')
        cache = [f'{kind}_{layer}' for kind in kinds for layer in range(manifest.layers)]
        return (*INPUTS, *cache), ('logits', *(f'present_{name}' for name in cache))

    def new_cache(self) -> OnnxCache:
        """Return a cache of the empty sequence."""
        return OnnxCache(self._buffers(BLOCK))

    def step(
        self, ids: Sequence[int], cache: OnnxCache, features: Array | None, last: int
    ) -> Array:
        """Append visual tokens (F, D), then ids; returns the logits of the last `last` ids."""
        rows = self._nothing if features is None else features[None]
        new = rows.shape[1] + len(ids)
        self._make_room(cache, new)
        buffers = cache.buffers
        binding = buffers.binding
        # Named, because the binding does not keep them alive.
        feeds = {
            'input_ids': np.asarray([ids], np.int64),
            'features': np.ascontiguousarray(rows, np.float32),
            'position': np.asarray([cache.length], np.int64),
            'rows': np.arange(new - last, new, dtype=np.int64),
        }
        for name, values in feeds.items():
            binding.bind_cpu_input(name, values)
        binding.bind_output('logits', 'cpu')
        try:
            self.session.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            buffers.dirty = True
            raise failed(error, 'decoder', self.device) from error
        logits = np.asarray(binding.get_outputs()[0].numpy()[0])
        buffers.dirty = not np.isfinite(logits.sum())
        cache.length += new
        return logits

    def _make_room(self, cache: OnnxCache, new: int) -> None:
        """See to it that `new` positions can be written behind the sequence."""
        buffers, needed = cache.buffers, cache.length + new
        alone = all(user.length <= cache.length for user in buffers.users)
        if alone and not buffers.dirty and needed <= buffers.capacity:
            return
        fresh = self._buffers(needed, buffers.host(), cache.length)
        cache.moved(fresh)

    def _buffers(self, needed: int, content: Sequence[np.ndarray] = (), length: int = 0) -> Buffers:
        shape = self._manifest
        capacity = max(min(-(-needed // BLOCK) * BLOCK, shape.max_length), needed)
        arrays = [
            np.zeros((1, shape.kv_heads, capacity, shape.head_dim), _TYPES[shape.cache])
            for _ in self.cache_names
        ]
        for array, old in zip(arrays, content, strict=False):
            array[:, :, :length] = old[:, :, :length]
        return Buffers(self, arrays)
