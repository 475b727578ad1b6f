"""The decoder on TensorRT: a cache on the device that is written in place.

Where in it a sequence lies is the business of `slots`, as on ONNX Runtime. All buffers have the
capacity of the profile, so that a decoding step has no shape that changes and is replayed as a
CUDA graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final
from weakref import finalize

import numpy as np

from unifiedmllm_ros.errors import ModelFileError
from unifiedmllm_ros.runtime import slots
from unifiedmllm_ros.runtime.engine import Array, Row
from unifiedmllm_ros.runtime.manifest import DECODER_INPUTS, Manifest
from unifiedmllm_ros.runtime.slots import SlotBuffers, SlotCache, Slots
from unifiedmllm_ros.runtime.tensorrt_build import DECODE, PREFILL, DecoderProfile
from unifiedmllm_ros.runtime.tensorrt_runs import runs
from unifiedmllm_ros.runtime.tensorrt_session import Session, Slot

_BYTES: Final = {'fp32': 4, 'fp16': 2, 'bf16': 2}


class DeviceBuffers(SlotBuffers):
    """Device memory of the keys and values of all layers.

    graph: the decoding step, captured; 0 before that.
    """

    def __init__(self, cuda: Any, names: Sequence[str], capacity: int, size: int) -> None:
        """size: bytes of one layer's keys."""
        super().__init__(capacity)
        self.addresses = {name: cuda.malloc(size) for name in names}
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
        self._names = manifest.cache_names
        self._session, self._manifest, self._profile = session, manifest, profile
        self._nothing = np.zeros((0, manifest.hidden), np.float32)
        present = [f'present_{name}' for name in self._names]
        expected = {*DECODER_INPUTS, 'logits', *self._names, *present}
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
            'places': Slot(cuda, profile.capacity, np.int64),
            'position': Slot(cuda, 1, np.int64),
            'visible': Slot(cuda, profile.capacity**2, np.bool_),
            'rows': Slot(cuda, profile.rows, np.int64),
            'logits': Slot(cuda, profile.rows * manifest.vocab, np.float32),
        }
        self._bound: DeviceBuffers | None = None
        for index in (PREFILL, DECODE):
            session.bind(index, {name: slot.address for name, slot in self._slots.items()})

    def new_cache(self) -> SlotCache:
        """Return a cache of the empty sequence."""
        return SlotCache(self.gather((), self._profile.capacity))

    def step(self, rows: Sequence[Row]) -> list[Array]:
        """Append to sequences; see Engine.step_all.

        What exceeds the profile of one run is taken in several. Raises ValueError for more visual
        tokens in one picture than the profile has.
        """
        return slots.in_groups(rows, self._profile.capacity, self._grow)

    def _grow(self, rows: Sequence[Row]) -> list[Array]:
        said: list[list[Array]] = [[] for _ in rows]
        for run in runs(rows, self._profile):
            parts = [part for _, part in run]
            if not sum(part.wanted for part in parts):  # the profile has one logit at least
                parts[-1] = replace(parts[-1], last=1)
            logits = self._run(parts)
            for (place, part), given in zip(run, logits, strict=True):
                said[place].append(given[: part.wanted])
        return [np.concatenate(logits) for logits in said]

    def _run(self, rows: Sequence[Row]) -> list[Array]:
        whole = [slots.Suffix(row) for row in rows]
        return slots.run(rows, whole, self, self._nothing, self._compute)

    def _compute(self, buffers: DeviceBuffers, given: slots.Inputs) -> Array:
        session = self._session
        self._bind(buffers)
        for name, array in given.arrays.items():
            self._slots[name].upload(array, session.stream)
        shapes = {name: array.shape for name, array in given.arrays.items()}
        if given.new == 1:
            self._decode(buffers, shapes)
        else:
            session.run(PREFILL, shapes)
        shape = (len(given.arrays['rows']), self._manifest.vocab)
        return self._slots['logits'].download(shape, session.stream)

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

    def gather(self, parts: Sequence[tuple[DeviceBuffers, Slots]], capacity: int) -> DeviceBuffers:
        """Return new buffers that begin with slots of others; all have the profile's capacity."""
        shape, cuda, stream = self._manifest, self._session.cuda, self._session.stream
        width = shape.head_dim * _BYTES[shape.cache]
        pitch = self._profile.capacity * width
        size = shape.kv_heads * pitch
        fresh = DeviceBuffers(cuda, self._names, self._profile.capacity, size)
        start = 0
        for buffers, held in parts:
            for first, count in _stretches(held):
                for name, address in buffers.addresses.items():
                    target, source = fresh.addresses[name] + start * width, address + first * width
                    cuda.copy_rows(target, source, pitch, count * width, shape.kv_heads, stream)
                start += count
        cuda.synchronise(stream)
        return fresh

    def _bind(self, buffers: DeviceBuffers) -> None:
        if self._bound is buffers:
            return
        for index in (PREFILL, DECODE):
            for name, address in buffers.addresses.items():
                # One address for both: the engine writes its cache in place.
                self._session.bind(index, {name: address, f'present_{name}': address})
        # A captured graph stays valid: it holds the addresses of its own buffers.
        self._bound = buffers


def _stretches(held: Slots) -> list[tuple[int, int]]:
    """Return ascending slots as stretches without a gap: where each begins, and how long it is."""
    if not len(held):
        return []
    cuts = np.flatnonzero(np.diff(held) > 1) + 1
    return [(int(part[0]), len(part)) for part in np.split(held, cuts)]
