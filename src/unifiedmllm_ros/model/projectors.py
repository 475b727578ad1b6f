"""Adapters that bring an encoder's output into the language model's embedding space."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from unifiedmllm_ros.model.configuration import RegionVisionConfig
from unifiedmllm_ros.model.regions import Regions

FREQUENCIES = 16
COORDINATE_FEATURES = 2 * FREQUENCIES


def coordinate_features(values: Tensor) -> Tensor:
    """Fourier features of numbers in [0, 1]: (...,) -> (..., 32).

    Frequencies run from 1/4 to 64 periods, so that neighbours at a thousandth stay similar and
    far numbers do not (Tancik et al., 2020).
    """
    steps = torch.arange(FREQUENCIES, device=values.device, dtype=torch.float32)
    frequencies = 0.25 * 2.0 ** (steps * (8.0 / (FREQUENCIES - 1)))
    angles = values.float().unsqueeze(-1) * (2 * math.pi * frequencies)
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


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
        self.norm = nn.LayerNorm(hidden_size)
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
        return self.norm(self.appearance(regions.appearance) + score * (words + edges) + scalars)
