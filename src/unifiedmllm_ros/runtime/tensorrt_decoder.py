"""The decoder on TensorRT: a cache on the device that is written in place.

As on ONNX Runtime, forks share buffers, and whoever would write over what another one still reads
takes a copy of the beginning first. All buffers have the capacity of the profile, so that a
decoding step has no shape that changes and is replayed as a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from weakref import WeakSet, finalize

import numpy as np

from unifiedmllm_ros.errors import ModelFileError
from unifiedmllm_ros.runtime.engine import Array
from unifiedmllm_ros.runtime.manifest import Manifest
from unifiedmllm_ros.runtime.tensorrt_build import DECODE, PREFILL, DecoderProfile
from unifiedmllm_ros.runtime.tensorrt_session import Session, Slot

_BYTES: Final = {'fp32': 4, 'fp16': 2, 'bf16': 2}
_INPUTS: Final = ('input_ids', 'features', 'position', 'rows')


class DeviceCache:
    """A sequence: the first `length` positions of buffers that others may share."""

    def __init__(self, buffers: DeviceBuffers, length: int = 0) -> None:
        self.buffers = buffers
        self.held = length
        buffers.users.add(self)

    @property
    def length(self) -> int:
        """Positions held."""
        return self.held

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on."""
        if not 0 <= length <= self.held:
            raise ValueError(f'cannot truncate a cache of {self.held} positions to {length}')
        self.held = length

    def fork(self) -> DeviceCache:
        """Return a cache of the same sequence that goes its own way."""
        return DeviceCache(self.buffers, self.held)

    def moved(self, buffers: DeviceBuffers) -> None:
        """Go on in other buffers."""
        self.buffers.users.discard(self)
        self.buffers = buffers
        buffers.users.add(self)


class DeviceBuffers:
    """Device memory of the keys and values of all layers.

    dirty: as of onnx_decoder.Buffers. graph: the decoding step, captured; 0 before that.
    """

    def __init__(self, cuda: Any, names: Sequence[str], size: int) -> None:
        self.users: WeakSet[DeviceCache] = WeakSet()
        self.addresses = {name: cuda.malloc(size) for name in names}
        self.dirty = False
        self.warm = False
        self.graph = 0
        # When the last sequence in them is gone.
        finalize(self, _free, cuda, tuple(self.addresses.values()))


def _free(cuda: Any, addresses: Sequence[int]) -> None:
    for address in addresses:
        cuda.free(address)


class TensorrtDecoder:
    """Runs the decoder's engine."""

    def __init__(self, session: Session, manifest: Manifest, profile: DecoderProfile) -> None:
        """Check the engine's names against the manifest and set up inputs and outputs.

        Raises ModelFileError for an engine of another graph, GpuMemoryError.
        """
        kinds, layers = ('keys', 'values'), range(manifest.layers)
        self._names = [f'{kind}_{layer}' for kind in kinds for layer in layers]
        self._session, self._manifest, self._profile = session, manifest, profile
        expected = {*_INPUTS, 'logits', *self._names, *(f'present_{name}' for name in self._names)}
        if set(session.names()) != expected or len(session.contexts) != 2:
            raise ModelFileError(
                f'{session.name}: inputs and outputs {sorted(session.names())}, this version '
                f'needs {sorted(expected)} and two profiles; run unifiedmllm export --to tensorrt '
                '--rebuild'
            )
        cuda = session.cuda
        self._slots = {
            'input_ids': Slot(cuda, profile.ids, np.int64),
            'features': Slot(cuda, profile.features * manifest.hidden, np.float32),
            'position': Slot(cuda, 1, np.int64),
            'rows': Slot(cuda, profile.rows, np.int64),
            'logits': Slot(cuda, profile.rows * manifest.vocab, np.float32),
        }
        self._bound: DeviceBuffers | None = None
        for index in (PREFILL, DECODE):
            session.bind(index, {name: slot.address for name, slot in self._slots.items()})

    def new_cache(self) -> DeviceCache:
        """Return a cache of the empty sequence."""
        return DeviceCache(self._buffers())

    def step(
        self, ids: Sequence[int], cache: DeviceCache, features: Array | None, last: int
    ) -> Array:
        """Append visual tokens (F, D), then ids; returns the logits of the last `last` ids.

        What exceeds the profile of one run is taken in several. Raises ValueError for more visual
        tokens than the profile has.
        """
        nothing = np.zeros((0, self._manifest.hidden), np.float32)
        rows = nothing if features is None else features
        if len(rows) > self._profile.features:
            raise ValueError(
                f'{len(rows)} visual tokens in one step, the engine was built for '
                f'{self._profile.features}'
            )
        before, said = cache.held, list[Array]()
        try:
            for start, end in self._runs(len(ids), last):
                wanted = min(end - start, max(end - (len(ids) - last), 0))
                logits = self._run(ids[start:end], cache, rows, max(wanted, 1))
                said.append(logits[len(logits) - wanted :])
                rows = nothing
        except Exception:
            cache.held = before
            cache.buffers.dirty = True
            raise
        return np.concatenate(said)

    def _runs(self, count: int, last: int) -> list[tuple[int, int]]:
        """Cut ids so that no run has more of them, or more logits, than the profile."""
        runs, start = [], 0
        while start < count:
            loud = max(count - last, start)  # where the wanted logits begin
            end = min(start + self._profile.ids, loud + self._profile.rows, count)
            runs.append((start, end))
            start = end
        return runs

    def _run(self, ids: Sequence[int], cache: DeviceCache, features: Array, wanted: int) -> Array:
        new, session = len(features) + len(ids), self._session
        self._make_room(cache)
        self._bind(cache.buffers)
        values: dict[str, np.ndarray] = {
            'input_ids': np.asarray([ids], np.int64),
            'features': np.ascontiguousarray(features, np.float32)[None],
            'position': np.asarray([cache.held], np.int64),
            'rows': np.arange(new - wanted, new, dtype=np.int64),
        }
        for name, array in values.items():
            self._slots[name].upload(array, session.stream)
        shapes = {name: array.shape for name, array in values.items()}
        if new == 1:
            self._decode(cache.buffers, shapes)
        else:
            session.run(PREFILL, shapes)
        shape = (wanted, self._manifest.vocab)
        logits = self._slots['logits'].download(shape, session.stream)
        cache.buffers.dirty = not np.isfinite(logits.sum())
        cache.held += new
        return logits

    def _decode(self, buffers: DeviceBuffers, shapes: dict[str, tuple[int, ...]]) -> None:
        """Run one id: as it comes the first time, then as a CUDA graph of these buffers."""
        session = self._session
        if session.library.rtx or not buffers.warm:
            session.run(DECODE, shapes)
            buffers.warm = True
            return
        if not buffers.graph:
            with session.cuda.capture(session.stream) as captured:
                session.enqueue(DECODE)
            buffers.graph = captured[0]
        session.cuda.launch(buffers.graph, session.stream)

    def _make_room(self, cache: DeviceCache) -> None:
        """See to it that the sequence may be written on."""
        buffers = cache.buffers
        alone = all(user.length <= cache.length for user in buffers.users)
        if alone and not buffers.dirty:
            return
        fresh = self._buffers()
        row = self._manifest.head_dim * _BYTES[self._manifest.cache]
        if cache.length:
            for name, address in buffers.addresses.items():
                self._session.cuda.copy_rows(
                    fresh.addresses[name],
                    address,
                    self._profile.capacity * row,
                    cache.length * row,
                    self._manifest.kv_heads,
                    self._session.stream,
                )
        self._session.cuda.synchronise(self._session.stream)
        cache.moved(fresh)

    def _bind(self, buffers: DeviceBuffers) -> None:
        if self._bound is buffers:
            return
        for index in (PREFILL, DECODE):
            for name, address in buffers.addresses.items():
                # One address for both: the engine writes its cache in place.
                self._session.bind(index, {name: address, f'present_{name}': address})
        # A captured graph stays valid: it holds the addresses of its own buffers.
        self._bound = buffers

    def _buffers(self) -> DeviceBuffers:
        shape = self._manifest
        elements = shape.kv_heads * self._profile.capacity * shape.head_dim
        return DeviceBuffers(self._session.cuda, self._names, elements * _BYTES[shape.cache])
