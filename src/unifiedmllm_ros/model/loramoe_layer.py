"""One linear layer with low-rank experts that a dense router mixes for each token."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NoReturn, Protocol

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn


class ExpertSizes(Protocol):
    """The numbers of a `LoraMoEConfig` that a layer is built from."""

    r: int
    alpha: float
    experts: int
    dropout: float
    init_weights: bool
    inference_mode: bool


class LoraMoELinear(nn.Module, BaseTunerLayer):
    """y = W x + alpha / r * sum_e p_e(x) B_e A_e x, with p = softmax(R x) over all experts.

    The layer of LoRAMoE (Dou et al., 2023, arXiv 2312.09979, section 3.2). W is frozen. The
    experts' matrices are stacked: A has experts * r rows, B as many columns, so that all experts
    cost two matrix products.

    Attributes:
        routing: while routes are recorded (`balancing.record_routing`) the list that takes
            (adapter name, router probabilities (..., experts) in float32) of each pass.
    """

    adapter_layer_names: ClassVar[tuple[str, ...]] = (
        'loramoe_A',
        'loramoe_B',
        'loramoe_router',
    )
    other_param_names: ClassVar[tuple[str, ...]] = ('r', 'scaling', 'experts', 'loramoe_dropout')

    def __init__(self, base_layer: nn.Module, adapter_name: str, sizes: ExpertSizes) -> None:
        super().__init__()
        self.base_layer = base_layer
        linear = self.get_base_layer()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.r: dict[str, int] = {}
        self.scaling: dict[str, float] = {}
        self.experts: dict[str, int] = {}
        self.loramoe_A = nn.ModuleDict()
        self.loramoe_B = nn.ModuleDict()
        self.loramoe_router = nn.ModuleDict()
        self.loramoe_dropout = nn.ModuleDict()
        self.merged_adapters: list[str] = []
        self._disable_adapters = False
        self._active_adapter = adapter_name
        self.routing: list[tuple[str, Tensor]] | None = None
        self.update_layer(adapter_name, sizes)

    def update_layer(self, adapter_name: str, sizes: ExpertSizes) -> None:
        """Add an adapter, or replace the one of that name."""
        rank = sizes.experts * sizes.r
        self.r[adapter_name] = sizes.r
        self.scaling[adapter_name] = sizes.alpha / sizes.r
        self.experts[adapter_name] = sizes.experts
        self.loramoe_A[adapter_name] = nn.Linear(self.in_features, rank, bias=False)
        self.loramoe_B[adapter_name] = nn.Linear(rank, self.out_features, bias=False)
        self.loramoe_router[adapter_name] = nn.Linear(self.in_features, sizes.experts, bias=False)
        self.loramoe_dropout[adapter_name] = nn.Dropout(sizes.dropout)
        self._initialise(adapter_name, sizes.init_weights)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=sizes.inference_mode)

    def _initialise(self, adapter_name: str, silent: bool) -> None:
        # A and the router keep the initialisation of nn.Linear, as LoRA's A does.
        if silent:
            nn.init.zeros_(self.loramoe_B[adapter_name].weight)
        else:
            bound = 1 / math.sqrt(self.r[adapter_name])
            nn.init.uniform_(self.loramoe_B[adapter_name].weight, -bound, bound)

    def route(self, x: Tensor, adapter_name: str) -> Tensor:
        """(..., in_features) -> probabilities (..., experts) in float32 that sum to 1."""
        router = self.loramoe_router[adapter_name]
        logits = router(self._adapters_input(x, router.weight.dtype))
        return torch.softmax(logits, dim=-1, dtype=torch.float32)

    def _adapters_input(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """In the adapter's type, unless autocast will see to it: it would only cast it back."""
        if torch.is_autocast_enabled(x.device.type):
            return x
        return self._cast_input_dtype(x, dtype)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """(..., in_features) -> (..., out_features) in the base layer's dtype."""
        result = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters:
            return result
        for name in self.active_adapters:
            if name in self.loramoe_A:
                result = result + self._delta(x, name).to(result.dtype)
        return result

    def _delta(self, x: Tensor, name: str) -> Tensor:
        probabilities = self.route(x, name)
        if self.routing is not None:
            self.routing.append((name, probabilities))
        first, second = self.loramoe_A[name], self.loramoe_B[name]
        hidden = first(self.loramoe_dropout[name](self._adapters_input(x, first.weight.dtype)))
        weights = probabilities.to(hidden.dtype).repeat_interleave(self.r[name], dim=-1)
        return self.scaling[name] * second(hidden * weights)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> NoReturn:
        """Not possible: what the experts add depends on the token."""
        raise NotImplementedError(
            'a LoRAMoE adapter cannot be merged into the base weights, its experts are mixed '
            'anew for every token; use unload() to take it off'
        )

    unmerge = merge
