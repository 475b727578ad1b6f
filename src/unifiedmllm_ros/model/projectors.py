"""Adapters that bring an encoder's output into the language model's embedding space."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from unifiedmllm_ros.model.configuration import RegionVisionConfig
from unifiedmllm_ros.model.regions import Regions

FREQUENCIES = 16
COORDINATE_FEATURES = 2 * FREQUENCIES
ORDER_FEATURES = 26
PRESENT = 0.2  # score from which a region counts as a thing


def coordinate_features(values: Tensor) -> Tensor:
    """Fourier features of numbers in [0, 1]: (...,) -> (..., 32).

    Frequencies run from 1/4 to 64 periods, so that neighbours at a thousandth stay similar and
    far numbers do not (Tancik et al., 2020).
    """
    steps = torch.arange(FREQUENCIES, device=values.device, dtype=torch.float32)
    frequencies = 0.25 * 2.0 ** (steps * (8.0 / (FREQUENCIES - 1)))
    angles = values.float().unsqueeze(-1) * (2 * math.pi * frequencies)
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


def order_features(regions: Regions) -> Tensor:
    """How each region stands among the others: (B, K, 26).

    For the horizontal place, the depth and the size: how many things have less of it and how many
    more, among all and among things alike (by the cosine of their words); each count as it is and
    as a decaying exponential, which singles out the first ones. Then how many things there are in
    all and alike. Weak regions do not count.
    """
    centre = regions.boxes[..., 0] + regions.boxes[..., 2]
    depth, size = regions.geometry[..., 0], regions.geometry[..., 1] + regions.geometry[..., 2]
    present = (regions.score * (regions.score > PRESENT).to(regions.score.dtype)).unsqueeze(1)
    length = regions.words.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-6)
    unit = regions.words / length
    alike = present * (unit @ unit.transpose(1, 2))
    counts = []
    for value in (centre, depth, size):
        other, own = value.unsqueeze(1), value.unsqueeze(2)
        for smaller in ((other < own), (other > own)):
            order = smaller.to(present.dtype)
            counts += [(order * present).sum(-1), (order * alike).sum(-1)]
    ranks = torch.stack(counts, dim=-1)
    totals = torch.stack((present.expand_as(alike).sum(-1), alike.sum(-1)), dim=-1)
    return torch.cat((ranks / 4, torch.exp(-ranks), totals / 4), dim=-1)


class MLPProjector(nn.Module):
    """The two-layer adapter (LLaVA 1.5): (B, N, inputs) -> (B, N, outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs)
        self.linear1 = nn.Linear(inputs, outputs)
        self.linear2 = nn.Linear(outputs, outputs)

    def forward(self, features: Tensor) -> Tensor:
        hidden = nn.functional.gelu(self.linear1(self.norm(features)))
        return self.linear2(hidden)


class RegionProjector(nn.Module):
    """A region's appearance through the two-layer adapter, plus what the dense head read.

    The words enter as the language model's own embeddings of those words and the edges as the
    Fourier features that the number tokens start from: to name a region or to write its box, the
    language model copies, and copying is learnt fast.
    """

    def __init__(self, config: RegionVisionConfig, hidden_size: int, scale: float) -> None:
        super().__init__()
        self.appearance = MLPProjector(config.width, hidden_size)
        self.edges = nn.Linear(4 * COORDINATE_FEATURES, hidden_size, bias=False)
        self.geometry = nn.Linear(config.geometry + 1, hidden_size)
        self.order = nn.Linear(ORDER_FEATURES, hidden_size, bias=False)
        self.norm = nn.LayerNorm(hidden_size)
        nn.init.zeros_(self.order.weight)
        nn.init.zeros_(self.appearance.linear2.weight)
        nn.init.zeros_(self.appearance.linear2.bias)
        nn.init.normal_(self.edges.weight, std=0.15 * scale)
        nn.init.normal_(self.geometry.weight, std=scale)
        nn.init.constant_(self.norm.weight, scale)

    def forward(self, regions: Regions, word_embeddings: Tensor) -> Tensor:
        """Args: word_embeddings: (W, D). Returns (B, K, D)."""
        score = regions.score.unsqueeze(-1)
        edges = self.edges(coordinate_features(regions.boxes).flatten(-2).to(score.dtype))
        scalars = self.geometry(torch.cat((regions.geometry, score), dim=-1))
        # Names weigh more than places: what is asked for is found by its name first.
        words = 2.0 * (regions.words @ word_embeddings)
        scalars = scalars + self.order(order_features(regions))
        return self.norm(self.appearance(regions.appearance) + score * (words + edges) + scalars)
