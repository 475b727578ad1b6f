"""The localised balancing loss of LoRAMoE: each type of sample leans on one half of the experts.

LoRAMoE, Dou et al., 2023 (arXiv 2312.09979), section 3.3: the importance of each expert for each
sample is multiplied by 1 + delta or 1 - delta, by the expert's half and the sample's type; the loss
is the squared coefficient of variation of that matrix. It is least where a sample gives the half
that is scaled up (the first half for type 1) the share (1 - delta) / 2 and the other half the rest,
and within a half all experts alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from unifiedmllm_ros.errors import ModelError
from unifiedmllm_ros.model.loramoe import LoraMoEConfig
from unifiedmllm_ros.model.loramoe_layer import LoraMoELinear

_TINY = 1e-10


@dataclass
class Routing:
    """Router probabilities (B, T, experts) of each adapted layer during one forward pass."""

    probabilities: list[tuple[str, Tensor]] = field(default_factory=list)
    with_gradient: bool = False

    def of(self, adapter_name: str) -> list[Tensor]:
        """Those of one adapter, in the order of the layers."""
        return [tensor for name, tensor in self.probabilities if name == adapter_name]


@contextmanager
def record_routing(model: nn.Module) -> Iterator[Routing]:
    """While it lasts, every adapted layer of `model` adds its router probabilities.

    Wrap the forward pass, not the backward pass: with gradient checkpointing the layers run again
    in the backward pass, and must not be counted twice.
    """
    routing = Routing(with_gradient=torch.is_grad_enabled() and model.training)
    layers = [module for module in model.modules() if isinstance(module, LoraMoELinear)]
    # A list for each layer: then all layers look alike to a compiler.
    for layer in layers:
        layer.routing = []
    try:
        yield routing
    finally:
        for layer in layers:
            routing.probabilities.extend(layer.routing or ())
            layer.routing = None


def balancing_loss(
    routing: Routing,
    config: LoraMoEConfig,
    sample_types: Tensor | Sequence[int],
    attention_mask: Tensor | None = None,
    adapter_name: str = 'default',
) -> Tensor:
    """The loss of all adapted layers, summed and multiplied by `config.balance_weight`.

    Args:
        sample_types: (B,) 1 where the first half of the experts is scaled up, 0 for the second.
        attention_mask: (B, T), 0 at padding; ignored in the published form, which counts it.

    Raises: ModelError: nothing was recorded, shapes do not fit, or the gradient is lost.
    """
    layers = routing.of(adapter_name)
    if not layers:
        raise ModelError(
            f'no routes of adapter {adapter_name!r}: run the model inside record_routing() '
            'with that adapter active'
        )
    if routing.with_gradient and not layers[0].requires_grad:
        raise ModelError(
            'the routes carry no gradient: use gradient checkpointing with use_reentrant=False, '
            'and an adapter that is trained'
        )
    mask = None if config.balance_published else attention_mask
    types = torch.as_tensor(sample_types, device=layers[0].device)
    losses = [
        _layer_loss(importance(each, mask, config.balance_published), types, config.balance_delta)
        for each in layers
    ]
    return config.balance_weight * torch.stack(losses).sum()


def importance(probabilities: Tensor, mask: Tensor | None, published: bool = False) -> Tensor:
    """(B, T, E) -> (B, E): how much each sample uses each expert.

    The mean over the sample's tokens, so that long and short samples count alike; in the
    published form the sum over all positions.
    """
    if probabilities.ndim != 3 or (mask is not None and mask.shape != probabilities.shape[:2]):
        shape = None if mask is None else tuple(mask.shape)
        raise ModelError(
            f'routes of shape {tuple(probabilities.shape)} with a mask of shape {shape}: wanted '
            '(batch, tokens, experts) and (batch, tokens)'
        )
    if published:
        return probabilities.sum(dim=1)
    if mask is None:
        return probabilities.mean(dim=1)
    weights = mask.to(probabilities.dtype).unsqueeze(-1)
    return (probabilities * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def _layer_loss(values: Tensor, types: Tensor, delta: float) -> Tensor:
    samples, experts = values.shape
    if types.shape != (samples,):
        raise ModelError(f'sample_types has shape {tuple(types.shape)} for {samples} samples')
    first_half = torch.arange(experts, device=values.device) < experts // 2
    fits = first_half == types.bool().unsqueeze(-1)
    weighted = values * torch.where(fits, 1 + delta, 1 - delta)
    return weighted.var() / (weighted.mean().square() + _TINY)
