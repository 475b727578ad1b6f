"""From backbone maps to mask features: a transformer at stride 32, then a feature pyramid."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

_GROUPS = 32


def sine_positions(like: Any) -> Any:
    """Return the sine position code of DETR (Carion et al., 2020) for (n, dim, h, w)."""
    dim, height, width = like.shape[1:]
    half = dim // 2
    steps = torch.arange(half, dtype=torch.float32, device=like.device)
    periods = 10_000 ** (2 * (steps // 2) / half)
    rows = _waves(height, periods)[:, None].expand(height, width, half)
    columns = _waves(width, periods)[None].expand(height, width, half)
    return torch.cat((rows, columns), dim=-1).permute(2, 0, 1)[None].to(like.dtype)


def _waves(count: int, periods: Any) -> Any:
    places = torch.arange(1, count + 1, dtype=torch.float32, device=periods.device)
    angles = (places / (count + 1e-6) * 2 * math.pi)[:, None] / periods
    return torch.stack((angles[:, 0::2].sin(), angles[:, 1::2].cos()), dim=-1).flatten(1)


class NormedConv(nn.Conv2d):
    """A convolution without bias, a group norm, and optionally a ReLU."""

    def __init__(self, inside: int, outside: int, kernel: int, rectified: bool) -> None:
        super().__init__(inside, outside, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.GroupNorm(_GROUPS, outside)
        self.rectified = rectified

    def forward(self, x: Any) -> Any:
        """(n, inside, h, w) -> (n, outside, h, w)."""
        x = self.norm(super().forward(x))
        return F.relu(x) if self.rectified else x


class EncoderLayer(nn.Module):
    """A transformer encoder layer, norms after the sums; positions join queries and keys only."""

    def __init__(self, dim: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, heads)
        self.linear1, self.linear2 = nn.Linear(dim, feedforward), nn.Linear(feedforward, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: Any, positions: Any) -> Any:
        """(cells, n, dim) -> the same shape."""
        placed = x + positions
        x = self.norm1(x + self.self_attn(placed, placed, x, need_weights=False)[0])
        return self.norm2(x + self.linear2(F.relu(self.linear1(x))))


class Encoder(nn.Module):
    """The layers, named as in the checkpoints (`transformer.encoder.layers`)."""

    def __init__(self, dim: int, heads: int, feedforward: int, layers: int) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(
            EncoderLayer(dim, heads, feedforward) for _ in range(layers)
        )

    def forward(self, x: Any) -> Any:
        """(n, dim, h, w) -> the same shape."""
        positions = sine_positions(x).flatten(2).permute(2, 0, 1)
        cells = x.flatten(2).permute(2, 0, 1)
        for layer in self.encoder.layers:
            cells = layer(cells, positions)
        return cells.permute(1, 2, 0).reshape(x.shape)


class PixelDecoder(nn.Module):
    """Mask features at stride 4, and maps at strides 32, 16 and 8 for the query decoder."""

    def __init__(
        self, widths: tuple[int, ...], dim: int, heads: int, feedforward: int, layers: int
    ) -> None:
        super().__init__()
        self.input_proj = nn.Conv2d(widths[-1], dim, 1)
        self.transformer = Encoder(dim, heads, feedforward, layers)
        for index, width in enumerate(widths[:-1], start=1):
            self.add_module(f'adapter_{index}', NormedConv(width, dim, 1, rectified=False))
        for index in range(1, len(widths) + 1):
            self.add_module(f'layer_{index}', NormedConv(dim, dim, 3, rectified=True))
        self.mask_features = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, maps: list[Any]) -> tuple[Any, Any, list[Any]]:
        """Return the mask features, the map out of the transformer, and the three maps."""
        encoded = self.transformer(self.input_proj(maps[-1]))
        y = getattr(self, f'layer_{len(maps)}')(encoded)
        scales = [y]
        for index in range(len(maps) - 1, 0, -1):
            side = getattr(self, f'adapter_{index}')(maps[index - 1])
            y = side + F.interpolate(y, size=side.shape[-2:], mode='nearest')
            y = getattr(self, f'layer_{index}')(y)
            scales.append(y)
        return self.mask_features(y), encoded, scales[: len(maps) - 1]
