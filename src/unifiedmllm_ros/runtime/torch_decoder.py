"""The decoder in torch, for a GPU: a cache written in place, and steps that are replayed.

Where in the cache a sequence lies is the business of `slots`, as on the other engines. A step is
filled up to one of a few widths and looks at the first slots in use, so that few shapes occur; each
is recorded once for each piece of memory that holds caches.
"""

from __future__ import annotations

import importlib.util
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final
from weakref import finalize

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Cache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from unifiedmllm_ros.runtime import slots
from unifiedmllm_ros.runtime.cuda_graphs import Recorder
from unifiedmllm_ros.runtime.engine import Array, Row
from unifiedmllm_ros.runtime.graphs import group
from unifiedmllm_ros.runtime.manifest import Manifest
from unifiedmllm_ros.runtime.slots import SlotBuffers, SlotCache, Slots

ATTENTION: Final = 'unifiedmllm_slots'
WIDTHS: Final = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Positions that steps are filled up to; longer ones are computed as they are, unrecorded."""
SPAN: Final = 256
"""Slots that steps look at: a multiple of this."""

_NOBODY: Final = 0  # the place that a step's filling is written to and sees
_INT: Final = np.dtype(np.int64).itemsize

Shape = tuple[int, int, int, bool]
"""Of a step: positions, rows of logits, slots looked at, whether there are visual tokens."""


class Memory:
    """Keys and values: (2, layers, 1, heads, places, width); slot s lies in place s + 1."""

    def __init__(self, manifest: Manifest, device: Any, dtype: torch.dtype) -> None:
        places = -(-(1 + manifest.max_length) // SPAN) * SPAN
        shape = (2, manifest.layers, 1, manifest.kv_heads, places, manifest.head_dim)
        self.store = torch.zeros(shape, dtype=dtype, device=device)
        self.steps: dict[Shape, Callable[[], Tensor]] = {}

    def layer(self, index: int, span: int) -> tuple[Tensor, Tensor]:
        """Return the keys and values of a layer, (1, heads, span, width) each."""
        return self.store[0, index, :, :, :span], self.store[1, index, :, :, :span]


class TorchBuffers(SlotBuffers):
    """Memory in use; it is free again when the last sequence in it is gone."""

    def __init__(self, memory: Memory, capacity: int, free: list[Memory]) -> None:
        super().__init__(capacity)
        self.memory = memory
        finalize(self, free.append, memory)


class StepInputs:
    """What a step of a shape computes with, on the device, and the same on the host.

    ids, places, slots: (T,) of the positions; rows: (K,), which of them give logits; shown: (1,),
    how many of the first are visual tokens; visible: (T, S); features: (T, D), the visual tokens.
    """

    def __init__(self, shape: Shape, hidden: int, device: Any) -> None:
        width, wanted, span, visual = shape
        self.shape = shape
        count = 3 * width + wanted + 1
        pinned = device.type == 'cuda'
        self._host = torch.zeros(count * _INT + width * span, dtype=torch.uint8, pin_memory=pinned)
        self._device = torch.zeros_like(self._host, device=device)
        self._integers = self._host[: count * _INT].view(torch.int64).numpy()
        self._visible = self._host[count * _INT :].view(torch.bool).view(width, span).numpy()
        parts = self._device[: count * _INT].view(torch.int64).split((width,) * 3 + (wanted, 1))
        self.ids, self.places, self.slots, self.rows, self.shown = parts
        self.visible = self._device[count * _INT :].view(torch.bool).view(width, span)
        self._pinned = pinned
        self._said: Tensor | None = None
        self._features = torch.zeros((width, hidden), pin_memory=pinned) if visual else None
        self.features = torch.zeros((width, hidden), device=device) if visual else None

    def fill(self, given: dict[str, np.ndarray]) -> None:
        """Copy the arrays of a step, see slots.Inputs, to the device."""
        width, _, span, _ = self.shape
        shown, rows = given['features'].shape[1], given['rows']
        new, start = given['places'].shape[1], int(given['position'][0])
        integers, visible = self._integers, self._visible
        integers[:] = 0
        integers[shown:new] = given['input_ids'][0]
        integers[width : width + new] = given['places'][0]
        integers[2 * width : 2 * width + new] = np.arange(start + 1, start + 1 + new)
        integers[3 * width : 3 * width + len(rows)] = rows
        integers[-1] = shown
        visible[:, _NOBODY], visible[:, 1:] = True, False
        visible[:new, _NOBODY] = False
        seen = min(span - 1, given['visible'].shape[1])
        visible[:new, 1 : 1 + seen] = given['visible'][:, :seen]
        self._device.copy_(self._host, non_blocking=True)
        if self.features is not None and self._features is not None:
            self._features[:shown] = torch.from_numpy(given['features'][0])
            self.features.copy_(self._features, non_blocking=True)

    def read(self, logits: Tensor) -> Array:
        """Return what the step gave, when it has ended."""
        if not self._pinned:
            return np.array(logits)  # a copy: the tensor is written again
        if self._said is None:
            shape = self.shape[1], logits.shape[1]
            self._said = torch.zeros(shape, pin_memory=True)
        said = self._said[: len(logits)]
        said.copy_(logits, non_blocking=True)
        torch.cuda.current_stream(logits.device).synchronize()
        return np.array(said)


class SlotLayers(Cache):
    """Memory as `transformers` wants it: a cache that a step writes into at its slots."""

    def __init__(self, memory: Memory, at: Tensor, span: int) -> None:
        super().__init__(layers=[])
        self._memory, self._at, self._span = memory, at, span

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the new keys and values (1, H, T, d) of a layer; returns those looked at."""
        keys, values = self._memory.layer(layer_idx, self._span)
        keys.index_copy_(2, self._at, key_states)
        values.index_copy_(2, self._at, value_states)
        return keys, values


class TorchDecoder:
    """Runs a causal language model of `transformers` over slots. A slots.Mover."""

    def __init__(
        self, language_model: nn.Module, manifest: Manifest, recorder: Recorder, fused: bool = True
    ) -> None:
        """Take the model as it is, where it is; from now on it looks at slots.

        fused: use the kernels of `fused_decoder` where they fit.
        """
        self._model: Any = language_model
        self._model.config._attn_implementation = ATTENTION
        self._manifest, self._recorder = manifest, recorder
        self._dtype = next(language_model.parameters()).dtype
        self._nothing = np.zeros((0, manifest.hidden), np.float32)
        self._inputs: dict[Shape, StepInputs] = {}
        self._free: list[Memory] = []
        self._fused = _fused(language_model, manifest.max_length) if fused else None

    @property
    def fused(self) -> bool:
        """Whether steps over one position are those of `fused_decoder`."""
        return self._fused is not None

    def new_cache(self) -> SlotCache:
        """Return a cache of the empty sequence."""
        return SlotCache(self.gather((), self._manifest.max_length))

    def step(self, rows: Sequence[Row]) -> list[Array]:
        """Append to sequences; see Engine.step_all."""
        return slots.in_groups(rows, self._manifest.max_length, self._run)

    def _run(self, rows: Sequence[Row]) -> list[Array]:
        return slots.run(rows, slots.suffixes_of(rows), self, self._nothing, self._compute)

    def _compute(self, buffers: TorchBuffers, given: slots.Inputs) -> Array:
        memory, wanted = buffers.memory, len(given.arrays['rows'])
        shape = step_shape(given)
        inputs = self._inputs.get(shape)
        if inputs is None:
            inputs = StepInputs(shape, self._manifest.hidden, self._recorder.device)
            if shape[0] <= WIDTHS[-1]:
                self._inputs[shape] = inputs
        inputs.fill(given.arrays)
        with torch.inference_mode():
            step = memory.steps.get(shape)
            if step is None:
                step = self._step(memory, inputs)
                if shape[0] <= WIDTHS[-1]:
                    step = memory.steps[shape] = self._recorder.record(step)
            return inputs.read(step()[:wanted])

    def _step(self, memory: Memory, inputs: StepInputs) -> Callable[[], Tensor]:
        """Return the computation of a step: logits (K, V) in float32."""
        if self._fused is not None and inputs.shape[0] == 1 and inputs.features is None:
            return partial(self._fused.step, memory, inputs)

        def step() -> Tensor:
            embedded = self._model.get_input_embeddings()(inputs.ids)
            if inputs.features is not None:
                order = torch.arange(len(inputs.ids), device=embedded.device)
                pictured = (order < inputs.shown).unsqueeze(1)
                embedded = torch.where(pictured, inputs.features.to(embedded.dtype), embedded)
            span = inputs.visible.shape[1]
            mask = torch.zeros_like(inputs.visible, dtype=embedded.dtype)
            mask = mask.masked_fill(~inputs.visible, torch.finfo(embedded.dtype).min)
            output = self._model(
                inputs_embeds=embedded[None],
                attention_mask=mask[None, None],
                position_ids=inputs.places[None],
                past_key_values=SlotLayers(memory, inputs.slots, span),
                use_cache=True,
                logits_to_keep=inputs.rows,
            )
            return output.logits[0].float()

        return step

    def gather(self, parts: Sequence[tuple[TorchBuffers, Slots]], capacity: int) -> TorchBuffers:
        """Return new buffers that begin with slots of others; all have the model's length."""
        with torch.inference_mode():
            memory = self._free.pop() if self._free else self._new_memory()
            memory.store.zero_()  # what is left of others need not be finite
            start = 1
            for buffers, held in parts:
                at = torch.from_numpy(held + 1).to(self._recorder.device)
                memory.store[..., start : start + len(held), :] = buffers.memory.store[..., at, :]
                start += len(held)
        return TorchBuffers(memory, self._manifest.max_length, self._free)

    def _new_memory(self) -> Memory:
        return Memory(self._manifest, self._recorder.device, self._dtype)


def step_shape(given: slots.Inputs) -> Shape:
    """Return the shape that a step is filled up to."""
    new, wanted = given.new, len(given.arrays['rows'])
    width = WIDTHS[bisect_left(WIDTHS, new)] if new <= WIDTHS[-1] else new
    kept = min(WIDTHS[bisect_left(WIDTHS, wanted)] if wanted <= WIDTHS[-1] else wanted, width)
    end = int(given.arrays['position'][0]) + new
    span = -(-(1 + end) // SPAN) * SPAN
    return width, max(kept, wanted), span, given.arrays['features'].shape[1] > 0


def _fused(language_model: nn.Module, max_length: int) -> Any:
    """Return what computes steps over one position faster, None where nothing does."""
    if importlib.util.find_spec('triton') is None:
        return None
    from unifiedmllm_ros.runtime.fused_decoder import FusedDecoder, fits, runs_here

    if not (fits(language_model) and runs_here(next(language_model.parameters()).device)):
        return None
    return FusedDecoder(language_model, max_length)


def slots_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention whose groups of query heads share keys and values without repeating them.

    query (1, heads, T, d), key and value (1, kv heads, S, d), attention_mask (1, 1, T, S).
    """
    grouped, mask = group(query, key.shape[1], attention_mask)
    said = nn.functional.scaled_dot_product_attention(
        grouped, key, value, attn_mask=mask, scale=scaling
    )
    return said.reshape(query.shape).transpose(1, 2), None


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, slots_attention)
