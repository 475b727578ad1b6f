"""A decoding step over one position with the kernels of `fused_kernels`, five to a layer.

For language models built as Llama's are: root mean square norms, rotary embeddings, gated layers,
products without bias. Granite's factors are known; whatever else a model has, LoRAMoE's experts
among it, makes it none of these, and the step is that of `transformers`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from unifiedmllm_ros.runtime.torch_decoder import Memory, StepInputs

KINDS: Final = ('llama', 'granite')
SPLITS: Final = 8
"""Parts that the slots of a head are looked at in, at most."""
BLOCK: Final = 16384
"""Numbers of keys that are looked at together."""
_WIDEST: Final = 2048


@dataclass(frozen=True)
class Tiles:
    """How a product is cut: rows and columns of one program's blocks, and its warps."""

    rows: int
    columns: int
    warps: int


@dataclass(frozen=True)
class Layer:
    """Weights of a layer: queries, keys and values in one, gates before the others in one."""

    norm: Tensor
    projection: Tensor
    output: Tensor
    second_norm: Tensor
    gated: Tensor
    down: Tensor


class FusedDecoder:
    """Computes steps over one position of a model that `fits`."""

    def __init__(self, language_model: nn.Module, max_length: int) -> None:
        """Put weights that are read together into one tensor, whose parts the model goes on with.

        max_length: longest sequence.
        """
        model: Any = language_model
        config = model.config
        weight = model.get_input_embeddings().weight
        self._embedding: Tensor = weight
        self._head: Tensor = model.get_output_embeddings().weight
        self._norm, self._eps = model.model.norm.weight, float(config.rms_norm_eps)
        self._layers = [_layer(layer) for layer in model.model.layers]
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._width = _width(config)
        self._scale = float(getattr(config, 'attention_multiplier', self._width**-0.5))
        self._embedded_scale = float(getattr(config, 'embedding_multiplier', 1.0))
        self._residual_scale = float(getattr(config, 'residual_multiplier', 1.0))
        self._logits_scale = 1.0 / float(getattr(config, 'logits_scaling', 1.0))
        places = torch.arange(max_length, device=weight.device)[None]
        rotations = model.model.rotary_emb(weight.new_zeros(1, dtype=torch.float32), places)
        self._cosines, self._sines = (each[0].float().contiguous() for each in rotations)
        self._chained = weight.is_cuda and torch.cuda.get_device_capability(weight.device) >= (9, 0)
        self._make_room(weight.device)

    def _make_room(self, device: torch.device) -> None:
        heads, first = self._heads, self._layers[0]

        def room(*shape: int) -> Tensor:
            return torch.zeros(shape, device=device)

        self._projected = room(first.projection.shape[0])
        self._attended = room(heads * self._width)
        self._between = room(first.gated.shape[0] // 2)
        self._logits = room(1, self._head.shape[0])
        self._parts = room(heads, SPLITS, self._width + 2)
        self._arrived = torch.zeros(heads, dtype=torch.int32, device=device)

    def step(self, memory: Memory, inputs: StepInputs) -> Tensor:
        """Return the logits (1, V), float32, of one id; writes its keys and values."""
        state = self._embedding.index_select(0, inputs.ids)[0].float() * self._embedded_scale
        for index, layer in enumerate(self._layers):
            self._multiply(state, layer.projection, self._projected, norm=layer.norm)
            self._attend(memory, index, inputs)
            state = self._grown(state, self._attended, layer.output)
            self._multiply(state, layer.gated, self._between, norm=layer.second_norm, gated=True)
            state = self._grown(state, self._between, layer.down)
        self._multiply(state, self._head, self._logits, norm=self._norm)
        return self._logits if self._logits_scale == 1.0 else self._logits * self._logits_scale

    def _grown(self, state: Tensor, source: Tensor, weight: Tensor) -> Tensor:
        target = torch.empty_like(state)
        self._multiply(source, weight, target, added=state)
        return target

    def _multiply(
        self,
        source: Tensor,
        weight: Tensor,
        target: Tensor,
        norm: Tensor | None = None,
        added: Tensor | None = None,
        gated: bool = False,
    ) -> None:
        from unifiedmllm_ros.runtime.fused_kernels import matvec

        rows = weight.shape[0] // (2 if gated else 1)
        tiles = tiles_of(rows, weight.shape[1], gated)
        matvec[(-(-rows // tiles.rows),)](
            source,
            weight,
            target,
            source if norm is None else norm,
            source if added is None else added,
            self._residual_scale,
            self._eps,
            rows,
            K=weight.shape[1],
            BLOCK_N=tiles.rows,
            BLOCK_K=tiles.columns,
            NORM=norm is not None,
            GATED=gated,
            ADDED=added is not None,
            num_warps=tiles.warps,
            **self._launch(),
        )

    def _attend(self, memory: Memory, index: int, inputs: StepInputs) -> None:
        from unifiedmllm_ros.runtime.fused_kernels import attend

        span = inputs.visible.shape[1]
        keys, values = memory.layer(index, memory.store.shape[-2])
        block = min(256, max(16, BLOCK // self._width))
        splits = min(SPLITS, -(-span // block))
        attend[(self._heads, splits)](
            self._projected,
            keys,
            values,
            inputs.visible.view(torch.uint8),
            self._cosines,
            self._sines,
            inputs.places,
            inputs.slots,
            self._parts,
            self._arrived,
            self._attended,
            self._scale,
            memory.store.shape[-2],
            span,
            HEADS=self._heads,
            GROUPS=self._heads // self._kv_heads,
            WIDTH=self._width,
            BLOCK=block,
            SPLITS=splits,
            MOST=1 << (splits - 1).bit_length(),
            num_warps=8,
            **self._launch(),
        )

    def _launch(self) -> dict[str, Any]:
        if not self._chained:
            return {'CHAINED': False}
        return {'CHAINED': True, 'launch_pdl': True}


def runs_here(device: torch.device) -> bool:
    """Return whether Triton computes there: on a GPU, or anywhere where it interprets."""
    return device.type == 'cuda' or os.environ.get('TRITON_INTERPRET') == '1'


def fits(language_model: nn.Module) -> bool:
    """Return whether a causal language model is one that the kernels compute."""
    model: Any = language_model
    config = model.config
    width = _width(config)
    return (
        config.model_type in KINDS
        and config.hidden_act == 'silu'
        and width >= 2
        and width & (width - 1) == 0
        and all(_plain(layer) for layer in model.model.layers)
        and type(model.get_output_embeddings()) is nn.Linear
        and next(model.parameters()).dtype in (torch.float16, torch.bfloat16, torch.float32)
    )


def tiles_of(rows: int, columns: int, gated: bool) -> Tiles:
    """Return how a product of (rows, columns) is cut, as was fastest on an H200."""
    if columns % _WIDEST == 0:
        return Tiles(4, _WIDEST, 8)
    if columns > _WIDEST:
        return Tiles(4, _WIDEST // 2, 4)
    return Tiles(2 if gated else 8, 1 << (columns - 1).bit_length(), 4)


def _plain(layer: Any) -> bool:
    """Return whether a layer's products have nothing besides weights."""
    attention, gated = layer.self_attn, layer.mlp
    names = {attention: 'qkvo', gated: ('gate', 'up', 'down')}
    products = [getattr(owner, f'{n}_proj') for owner, ns in names.items() for n in ns]
    return all(type(product) is nn.Linear and product.bias is None for product in products)


def _width(config: Any) -> int:
    return int(
        getattr(config, 'head_dim', None) or config.hidden_size // config.num_attention_heads
    )


def _layer(layer: Any) -> Layer:
    attention, gated = layer.self_attn, layer.mlp
    return Layer(
        norm=layer.input_layernorm.weight,
        projection=_joined(attention.q_proj, attention.k_proj, attention.v_proj),
        output=attention.o_proj.weight.contiguous(),
        second_norm=layer.post_attention_layernorm.weight,
        gated=_joined(gated.gate_proj, gated.up_proj),
        down=gated.down_proj.weight.contiguous(),
    )


def _joined(*products: nn.Linear) -> Tensor:
    """Put weights into one tensor (N, K) and let the products keep theirs as parts of it."""
    whole = torch.cat([product.weight.data for product in products])
    start = 0
    for product in products:
        end = start + product.weight.shape[0]
        product.weight.data = whole[start:end]
        start = end
    return whole
