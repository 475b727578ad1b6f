"""Adapters that bring an encoder's output into the language model's embedding space."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unifiedmllm_ros.model.configuration import RegionVisionConfig
from unifiedmllm_ros.model.regions import Regions

FREQUENCIES = 16
COORDINATE_FEATURES = 2 * FREQUENCIES
ORDER_FEATURES = 26
PLACE_FEATURES = 2 * COORDINATE_FEATURES + 2
PRESENT = 0.2  # score from which a region counts as a thing
SAME = 0.5  # overlap from which two regions are one thing


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


@dataclass(frozen=True)
class Places:
    """The places to the left and right of each region, as large as it and on its base.

    far: (B, K, 2) the edge of each that is away from the region; free: (B, K, 2) 1 where the place
    is within the picture and no other thing is on it, else 0.
    """

    far: Tensor
    free: Tensor


def places_beside(regions: Regions, gap: float, widest: float, tallest: float) -> Places:
    """Where something could be put beside each region; weak regions are in nobody's way."""
    x1, y1, x2, y2 = regions.boxes.unbind(-1)
    width, height = (x2 - x1).clamp(max=widest), (y2 - y1).clamp(max=tallest)
    low = torch.stack((x1 - gap - width, x2 + gap), dim=-1)
    high = torch.stack((x1 - gap, x2 + gap + width), dim=-1)
    top = (y2 - height).unsqueeze(-1)
    x_meets = (low.unsqueeze(-1) < x2[:, None, None]) & (x1[:, None, None] < high.unsqueeze(-1))
    y_meets = (top < y2.unsqueeze(1)) & (y1.unsqueeze(1) < y2.unsqueeze(-1))
    other = (regions.score > PRESENT).unsqueeze(1) & (_overlaps(regions.boxes) < SAME)
    taken = (x_meets & (y_meets & other).unsqueeze(2)).any(-1)
    inside = (low >= 0) & (high <= 1)
    far = torch.stack((low[..., 0], high[..., 1]), dim=-1).clamp(0, 1)
    return Places(far, (inside & ~taken).to(far.dtype))


def _overlaps(boxes: Tensor) -> Tensor:
    """Intersection over union of all pairs: (B, K, 4) -> (B, K, K)."""
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    sides, shared = boxes[..., 2:] - boxes[..., :2], (high - low).clamp(min=0)
    area, common = sides[..., 0] * sides[..., 1], shared[..., 0] * shared[..., 1]
    return common / (area.unsqueeze(1) + area.unsqueeze(2) - common).clamp(min=1e-9)


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


def place_features(places: Places) -> Tensor:
    """Fourier features of the far edges, then whether the places are free: (B, K, 66)."""
    far = coordinate_features(places.far).flatten(-2).to(places.free.dtype)
    return torch.cat((far, places.free), dim=-1)


class RegionProjector(nn.Module):
    """A region's appearance through the two-layer adapter, plus what the dense head read.

    The words enter as the language model's own embeddings of those words and the edges as the
    Fourier features that the number tokens start from: to name a region or to write its box, the
    language model copies, and copying is learnt fast. So do the far edges of the places beside it,
    where the configuration says what such a place is.
    """

    def __init__(self, config: RegionVisionConfig, hidden_size: int, scale: float) -> None:
        super().__init__()
        self.appearance = MLPProjector(config.width, hidden_size)
        self.edges = nn.Linear(4 * COORDINATE_FEATURES, hidden_size, bias=False)
        self.geometry = nn.Linear(config.geometry + 1, hidden_size)
        self.order = nn.Linear(ORDER_FEATURES, hidden_size, bias=False)
        self.beside = config.places
        if config.places:
            self.places = nn.Linear(PLACE_FEATURES, hidden_size, bias=False)
            nn.init.normal_(self.places.weight, std=0.1 * scale)
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
        if self.beside:
            edges = edges + self.places(place_features(places_beside(regions, *self.beside)))
        scalars = self.geometry(torch.cat((regions.geometry, score), dim=-1))
        # Names weigh more than places: what is asked for is found by its name first.
        words = 2.0 * (regions.words @ word_embeddings)
        scalars = scalars + self.order(order_features(regions))
        return self.norm(self.appearance(regions.appearance) + score * (words + edges) + scalars)
