"""FocalNet: convolutions whose context, gathered at several reaches, modulates each position."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from unifiedmllm_ros.experts.seem.configuration import BackboneConfig


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (n, c, h, w)."""

    def forward(self, x: Any) -> Any:
        """Normalise each position."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PatchEmbedding(nn.Module):
    """A strided convolution and a norm: the stem, and the step between two stages."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inside, outside, kernel, stride, padding)
        self.norm = ChannelNorm(outside)

    def forward(self, x: Any) -> Any:
        """(n, inside, h, w) -> (n, outside, h / stride, w / stride)."""
        return self.norm(self.proj(x))


class FocalModulation(nn.Module):
    """Each position's query times a gated sum of its contexts, from near to the whole image."""

    def __init__(self, width: int, config: BackboneConfig) -> None:
        super().__init__()
        self.levels = config.levels
        self.f = nn.Linear(width, 2 * width + config.levels + 1)
        self.h = nn.Conv2d(width, width, 1)
        self.proj = nn.Linear(width, width)
        self.focal_layers = nn.ModuleList(
            _depthwise_gelu(width, config.window + config.window_step * level)
            for level in range(config.levels)
        )

    def forward(self, x: Any) -> Any:
        """(n, h, w, c) -> the same shape."""
        width = x.shape[-1]
        parts = self.f(x).permute(0, 3, 1, 2)
        query, context, gates = parts.split((width, width, self.levels + 1), dim=1)
        total = torch.zeros_like(context)
        for level, layer in enumerate(self.focal_layers):
            context = layer(context)
            total = total + context * gates[:, level : level + 1]
        whole = nn.functional.gelu(context.mean(dim=(2, 3), keepdim=True))
        total = (total + whole * gates[:, self.levels :]) / (self.levels + 1)
        return self.proj((query * self.h(total)).permute(0, 2, 3, 1))


def _depthwise_gelu(width: int, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
    return nn.Sequential(convolution, nn.GELU())


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Any) -> Any:
        """(..., width) -> (..., width)."""
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class FocalBlock(nn.Module):
    """Modulation and feed-forward, each scaled and added to its input."""

    def __init__(self, width: int, config: BackboneConfig) -> None:
        super().__init__()
        self.depthwise = config.depthwise
        if config.depthwise:
            self.dw1 = nn.Conv2d(width, width, 3, padding=1, groups=width)
            self.dw2 = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.gamma_1 = nn.Parameter(torch.ones(width))
        self.gamma_2 = nn.Parameter(torch.ones(width))
        self.modulation = FocalModulation(width, config)
        self.mlp = FeedForward(width, int(width * config.mlp_ratio))

    def forward(self, x: Any) -> Any:
        """(n, c, h, w) -> the same shape."""
        if self.depthwise:
            x = (x + self.dw1(x)).permute(0, 2, 3, 1)
            x = self.norm1(x + self.gamma_1 * self.modulation(x)).permute(0, 3, 1, 2)
            x = (x + self.dw2(x)).permute(0, 2, 3, 1)
            x = self.norm2(x + self.gamma_2 * self.mlp(x))
        else:
            x = x.permute(0, 2, 3, 1)
            x = x + self.gamma_1 * self.norm1(self.modulation(x))
            x = x + self.gamma_2 * self.norm2(self.mlp(x))
        return x.permute(0, 3, 1, 2)


class Stage(nn.Module):
    """The blocks of one resolution and, but for the last stage, the step to the next."""

    def __init__(self, width: int, depth: int, last: bool, config: BackboneConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(FocalBlock(width, config) for _ in range(depth))
        self.downsample = None if last else PatchEmbedding(width, 2 * width, 3, 2, 1)


class FocalNet(nn.Module):
    """The image backbone: four maps at strides 4, 8, 16 and 32."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(3, config.width, 7, 4, config.stem_padding)
        last = len(config.depths) - 1
        self.widths = tuple(config.width * 2**index for index in range(last + 1))
        self.layers = nn.ModuleList(
            Stage(width, depth, index == last, config)
            for index, (width, depth) in enumerate(zip(self.widths, config.depths, strict=True))
        )
        for index, width in enumerate(self.widths):
            self.add_module(f'norm{index}', ChannelNorm(width))

    def forward(self, pixels: Any) -> list[Any]:
        """(n, 3, h, w), h and w multiples of 32 -> maps of the stages, largest first."""
        x = self.patch_embed(pixels)
        maps = []
        for index, stage in enumerate(self.layers):
            for block in stage.blocks:
                x = block(x)
            maps.append(getattr(self, f'norm{index}')(x))
            if stage.downsample is not None:
                x = stage.downsample(x)
        return maps
