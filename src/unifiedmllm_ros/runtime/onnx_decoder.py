"""The decoder graph on ONNX Runtime, and the buffers it writes in place.

Keys and values lie in buffers that are input and output of the graph at once; where in them a
sequence lies is the business of `slots`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from unifiedmllm_ros.runtime import slots
from unifiedmllm_ros.runtime.denormals import flushed
from unifiedmllm_ros.runtime.engine import Array, Row
from unifiedmllm_ros.runtime.manifest import DECODER_INPUTS, Manifest
from unifiedmllm_ros.runtime.onnx_session import failed, onnxruntime
from unifiedmllm_ros.runtime.slots import SlotBuffers, SlotCache, Slots

BLOCK: Final = 64
"""Slots by which buffers grow."""
_TYPES: Final = {'fp32': np.float32, 'fp16': np.float16}


class Buffers(SlotBuffers):
    """Keys and values of all layers, (1, heads, capacity, width) each."""

    def __init__(self, arrays: list[np.ndarray], decoder: OnnxDecoder) -> None:
        super().__init__(int(arrays[0].shape[2]))
        self._arrays = arrays  # on the CPU they are the memory of the values
        make = decoder.runtime.OrtValue.ortvalue_from_numpy
        self.values = [make(array, decoder.device, 0) for array in arrays]
        self._binding: Any = None

    def binding(self, session: Any, names: Sequence[str]) -> Any:
        """Return what binds these buffers to the session."""
        binding = self._binding
        if binding is None:
            binding = self._binding = session.io_binding()
            for name, value in zip(names, self.values, strict=True):
                binding.bind_ortvalue_input(name, value)
                binding.bind_ortvalue_output(f'present_{name}', value)
        return binding

    def host(self) -> list[np.ndarray]:
        """Return the buffers' content as arrays of the host."""
        if self.values[0].device_name() == 'cpu':
            return self._arrays
        return [value.numpy() for value in self.values]


class OnnxDecoder:
    """Runs decoder.onnx."""

    def __init__(
        self,
        session: Any,
        manifest: Manifest,
        provider: str,
        runtime: Any = None,
    ) -> None:
        """session: of the graph; provider: where it computes."""
        self._session = session
        self.runtime = onnxruntime() if runtime is None else runtime
        self.device = provider
        self._manifest = manifest
        self._logits = int(session.get_outputs()[0].shape[-1])
        self._nothing = np.zeros((0, manifest.hidden), np.float32)

    @staticmethod
    def names(manifest: Manifest) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the inputs and outputs that the graph must have."""
        cache = manifest.cache_names
        return (*DECODER_INPUTS, *cache), ('logits', *(f'present_{name}' for name in cache))

    def new_cache(self) -> SlotCache:
        """Return a cache of the empty sequence."""
        return SlotCache(self.gather((), BLOCK))

    def step(self, rows: Sequence[Row]) -> list[Array]:
        """Append to sequences; see Engine.step_all."""
        return slots.in_groups(rows, self._manifest.max_length, self._run)

    def _run(self, rows: Sequence[Row]) -> list[Array]:
        return slots.run(rows, slots.suffixes_of(rows), self, self._nothing, self._compute)

    def _compute(self, buffers: Buffers, given: slots.Inputs) -> Array:
        binding = buffers.binding(self._session, self._manifest.cache_names)
        for name, values in given.arrays.items():  # `given` keeps them alive, the binding does not
            binding.bind_cpu_input(name, values)
        logits = np.empty((len(given.arrays['rows']), self._logits), np.float32)
        binding.bind_output('logits', 'cpu', 0, np.float32, (1, *logits.shape), logits.ctypes.data)
        try:
            with flushed():
                self._session.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise failed(error, 'decoder', self.device) from error
        return logits

    def gather(self, parts: Sequence[tuple[Buffers, Slots]], capacity: int) -> Buffers:
        """Return new buffers that begin with slots of others; see slots.Mover."""
        shape = self._manifest
        size = (1, shape.kv_heads, -(-capacity // BLOCK) * BLOCK, shape.head_dim)
        arrays = [np.zeros(size, _TYPES[shape.cache]) for _ in shape.cache_names]
        start = 0
        for buffers, held in parts:
            for array, old in zip(arrays, buffers.host(), strict=True):
                array[:, :, start : start + len(held)] = old[:, :, held]
            start += len(held)
        return Buffers(arrays, self)
