"""The modules that are exported: encoders with their adapters, and the decoder with its cache.

The decoder's cache is a buffer of any capacity C that a step writes into at `position`. In ONNX
this is TensorScatter, whose output the engines bind to the buffer of its input: nothing but the
new keys and values is ever copied. A step may append to several sequences at once, and sequences
may share their beginning: `visible` says which of the buffer's slots each new token attends to,
`places` where it stands in its own sequence. So a batch has no padding, and a shared beginning
lies in the buffer once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from unifiedmllm_ros.model.audio import AudioTower, log_mel_filters
from unifiedmllm_ros.model.loramoe_layer import LoraMoELinear
from unifiedmllm_ros.model.modeling import UnifiedMLLMForConditionalGeneration

ATTENTION = 'unifiedmllm_grouped'
_FLOOR = 1e-10


class VisionGraph(nn.Module):
    """pixels (B, 3, H, W) -> features (B, N, D)."""

    def __init__(self, model: UnifiedMLLMForConditionalGeneration) -> None:
        super().__init__()
        self.tower = model.image_tower
        # The few words as constants, or the whole embedding table would be in this graph too.
        self.register_buffer('words', _words(model))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.tower(pixels.to(_dtype(self.tower)), self.words).float()


class VideoGraph(nn.Module):
    """frames (F, 3, H, W), the configured number of them -> features (1, N, D)."""

    def __init__(self, model: UnifiedMLLMForConditionalGeneration) -> None:
        super().__init__()
        self.image_tower: Any = model.image_tower
        self.video_tower: Any = model.video_tower
        self.register_buffer('words', _words(model))

    def forward(self, frames: Tensor) -> Tensor:
        frames = frames.to(_dtype(self.image_tower))
        features = self.image_tower.frame_features(frames, self.words)
        return self.video_tower(features.unsqueeze(0)).float()


class AudioGraph(nn.Module):
    """waves (1, samples), one segment -> features (1, N, D).

    The spectrum is a convolution with windowed sines and cosines: the same numbers as those of
    `log_mel`, without the STFT operator that accelerators lack.
    """

    def __init__(self, tower: AudioTower) -> None:
        super().__init__()
        self.tower = tower
        settings = tower.settings
        angles = torch.outer(
            torch.arange(settings.window // 2 + 1, dtype=torch.float64),
            torch.arange(settings.window, dtype=torch.float64),
        ) * (2 * torch.pi / settings.window)
        window = torch.hann_window(settings.window, dtype=torch.float64)
        waves = torch.cat((angles.cos() * window, angles.sin() * window))
        self.register_buffer('waves', waves.float().unsqueeze(1))
        self.register_buffer('filters', log_mel_filters(settings))

    def forward(self, waves: Tensor) -> Tensor:
        mel = self._log_mel(waves).to(self.tower.projector.linear1.weight.dtype)
        return self.tower.read(mel)

    def _log_mel(self, waves: Tensor) -> Tensor:
        settings = self.tower.settings
        padded = nn.functional.pad(
            waves.unsqueeze(1), (settings.window // 2, settings.window // 2), mode='reflect'
        )
        parts = nn.functional.conv1d(padded, self.waves, stride=settings.hop).square()
        cosines, sines = parts.chunk(2, dim=1)
        power = self.filters @ (cosines + sines)
        if settings.scaling != 'whisper':
            return 10.0 * power.clamp(min=_FLOOR).log10()
        levels = power[..., :-1].clamp(min=_FLOOR).log10()
        loudest = levels.amax(dim=(1, 2), keepdim=True)
        return (torch.maximum(levels, loudest - 8.0) + 4.0) / 4.0


class DecoderGraph(nn.Module):
    """One step of the language model: any number of visual tokens, then token ids.

    input_ids (1, T); features (1, F, D); places (1, F + T), the position of each in its sequence;
    position (1,), the slot where the step begins to write; visible (F + T, C), which slots each
    attends to, its own among them; rows (K,), which of them give logits; keys and values of L
    layers, (1, H, C, d) each, with C >= position + F + T. Gives logits (1, K, V) in float32 and
    the buffers as they are then.
    """

    def __init__(self, language_model: nn.Module) -> None:
        super().__init__()
        self.language_model = language_model

    def forward(
        self,
        input_ids: Tensor,
        features: Tensor,
        places: Tensor,
        position: Tensor,
        visible: Tensor,
        rows: Tensor,
        keys: list[Tensor],
        values: list[Tensor],
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        embedded = self.language_model.get_input_embeddings()(input_ids)
        inputs = torch.cat((features.to(embedded.dtype), embedded), dim=1)
        lowest = torch.finfo(inputs.dtype).min
        mask = torch.zeros_like(visible, dtype=inputs.dtype).masked_fill(~visible, lowest)
        buffers = Buffers(keys, values, position)
        output = self.language_model(
            inputs_embeds=inputs,
            attention_mask=mask[None, None],
            position_ids=places,
            past_key_values=buffers,
            use_cache=True,
            logits_to_keep=rows,
        )
        return output.logits.float(), buffers.keys, buffers.values


class Buffers(Cache):
    """The decoder's keys and values as `transformers` wants them: a cache that it updates."""

    def __init__(self, keys: list[Tensor], values: list[Tensor], position: Tensor) -> None:
        super().__init__(layers=[])
        self.keys, self.values, self.position = list(keys), list(values), position

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the new keys and values of one layer; returns its whole buffers."""
        write = torch.ops.unifiedmllm.cache_write
        self.keys[layer_idx] = write(self.keys[layer_idx], key_states, self.position)
        self.values[layer_idx] = write(self.values[layer_idx], value_states, self.position)
        return self.keys[layer_idx], self.values[layer_idx]


@torch.library.custom_op('unifiedmllm::cache_write', mutates_args=())
def cache_write(buffer: Tensor, new: Tensor, position: Tensor) -> Tensor:
    """Return `buffer` (1, H, C, d) with `new` (1, H, N, d) from `position` (1,) on."""
    start = int(position[0])
    written = buffer.clone()
    written[:, :, start : start + new.shape[2]] = new
    return written


@cache_write.register_fake
def _(buffer: Tensor, new: Tensor, position: Tensor) -> Tensor:
    return torch.empty_like(buffer)


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What the exporter writes for our operators."""
    from onnxscript.onnx_opset import opset24

    def scatter(buffer: Any, new: Any, position: Any) -> Any:
        return opset24.TensorScatter(buffer, new, position, axis=2, mode='linear')

    return {torch.ops.unifiedmllm.cache_write.default: scatter}


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention whose groups of query heads share keys and values without repeating them.

    query (1, heads, T, d), key and value (1, kv heads, C, d), attention_mask (1, 1, T, C).
    """
    if (
        query.shape[1] == key.shape[1]
    ):  # no reshape between scale and product, which ONNX Runtime then fuses
        scores = (query * scaling) @ key.transpose(2, 3)
        said = torch.softmax(scores + attention_mask, dim=-1) @ value
        return said.transpose(1, 2), None
    grouped, mask = group(query * scaling, key.shape[1], attention_mask)
    said = torch.softmax(grouped @ key.transpose(2, 3) + mask, dim=-1) @ value
    return said.reshape(query.shape).transpose(1, 2), None


def group(query: Tensor, kv_heads: int, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Put the query heads that share keys behind one another, as if they were positions.

    query (1, heads, T, d) -> (1, kv heads, groups * T, d); mask (1, 1, T, C) -> that often.
    """
    batch, heads, new, width = query.shape
    groups = heads // kv_heads
    return query.reshape(batch, kv_heads, groups * new, width), mask.repeat(1, 1, groups, 1)


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, grouped_attention)


class ExpertsGraph(nn.Module):
    """A LoRAMoE layer with the fewest operators: (..., in) -> (..., out).

    The router's rows stand once for each rank of their expert, so that its softmax, which is then
    `r` times too small, weighs the experts' ranks as it is; the rest is in the second factor.
    """

    def __init__(self, layer: LoraMoELinear) -> None:
        super().__init__()
        self.base = layer.get_base_layer()
        names = [name for name in layer.active_adapters if name in layer.loramoe_A]
        self.routers = nn.ParameterList()
        self.firsts = nn.ParameterList()
        self.seconds = nn.ParameterList()
        for name in names:
            rank = layer.r[name]
            router = layer.loramoe_router[name].weight.repeat_interleave(rank, dim=0)
            self.routers.append(router)
            self.firsts.append(layer.loramoe_A[name].weight)
            self.seconds.append(layer.scaling[name] * rank * layer.loramoe_B[name].weight)

    def forward(self, x: Tensor) -> Tensor:
        said = self.base(x)
        for router, first, second in zip(self.routers, self.firsts, self.seconds, strict=True):
            logits = nn.functional.linear(x, router)
            shares = torch.softmax(logits, dim=-1, dtype=torch.float32).to(x.dtype)
            said = said + nn.functional.linear(nn.functional.linear(x, first) * shares, second)
        return said


@contextmanager
def exportable(language_model: nn.Module) -> Iterator[None]:
    """Let a causal language model of `transformers` use `grouped_attention` meanwhile, and its
    LoRAMoE layers be `ExpertsGraph`."""
    config: Any = language_model.config
    before = config._attn_implementation
    config._attn_implementation = ATTENTION
    layers = simplify_experts(language_model)
    try:
        yield
    finally:
        for name, layer in layers.items():
            language_model.set_submodule(name, layer)
        config._attn_implementation = before


def simplify_experts(language_model: nn.Module) -> dict[str, nn.Module]:
    """Put `ExpertsGraph` in the place of active LoRAMoE layers; returns those, by name."""
    layers = {
        name: module
        for name, module in language_model.named_modules()
        if isinstance(module, LoraMoELinear) and not module.disable_adapters
    }
    for name, layer in layers.items():
        language_model.set_submodule(name, ExpertsGraph(layer))
    return dict(layers)


def _dtype(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype


def _words(model: UnifiedMLLMForConditionalGeneration) -> Tensor | None:
    words = model.word_embeddings()
    return None if words is None else words.detach().clone()
