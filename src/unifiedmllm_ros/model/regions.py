"""The region encoder: an image becomes a few tokens, each one a thing in the picture.

A dense head reads the feature pyramid: is the centre of a thing here, where are its edges, which
words name it, how far and how large is it. Its best peaks become the visual tokens, from left to
right, so that their order already says which one is the leftmost. Localised tokens of this kind
are described by Groma (Ma et al., 2024); the peaks are those of CenterNet (Zhou et al., 2019).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from unifiedmllm_ros.model.configuration import RegionVisionConfig
from unifiedmllm_ros.model.efficientnet import PYRAMID_CHANNELS, EfficientNetLite0

STRIDE = 8


@dataclass(frozen=True)
class DenseMaps:
    """Head outputs at stride 8: heat (B,1,h,w) logits; edges (B,4,h,w) distances to the left,
    top, right and bottom edge in cells, positive; words (B,W,h,w) logits; geometry (B,G,h,w);
    appearance (B,C,h,w)."""

    heat: Tensor
    edges: Tensor
    words: Tensor
    geometry: Tensor
    appearance: Tensor

    def map(self, function) -> DenseMaps:  # type: ignore[no-untyped-def]
        """Apply a function to every map."""
        return DenseMaps(*(function(getattr(self, field.name)) for field in fields(self)))


@dataclass(frozen=True)
class Regions:
    """K regions of each image, from left to right.

    score (B,K) in [0, 1]; boxes (B,K,4) x1 y1 x2 y2 in [0, 1]; words (B,K,W) probabilities;
    geometry (B,K,G); appearance (B,K,C).
    """

    score: Tensor
    boxes: Tensor
    words: Tensor
    geometry: Tensor
    appearance: Tensor

    def map(self, function) -> Regions:  # type: ignore[no-untyped-def]
        """Apply a function to every tensor."""
        return Regions(*(function(getattr(self, field.name)) for field in fields(self)))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(x + self.norm2(self.conv2(y)))


class RegionHead(nn.Module):
    """Neck over the pyramid and the dense head; the trainable part of the region encoder."""

    def __init__(self, config: RegionVisionConfig) -> None:
        super().__init__()
        width, (c8, c16, c32) = config.width, PYRAMID_CHANNELS
        self.fine = nn.Sequential(nn.Conv2d(c8, width, 1, bias=False), nn.BatchNorm2d(width))
        self.down = nn.Sequential(
            nn.Conv2d(c8, width, 3, 2, padding=1, bias=False), nn.BatchNorm2d(width)
        )
        self.middle = nn.Sequential(nn.Conv2d(c16, width, 1, bias=False), nn.BatchNorm2d(width))
        self.coarse = nn.Sequential(nn.Conv2d(c32, width, 1, bias=False), nn.BatchNorm2d(width))
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(config.neck_blocks)))
        self.merge = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        outputs = 1 + 4 + len(config.words) + config.geometry
        self.output = nn.Conv2d(width, outputs, 1)
        self.splits = (1, 4, len(config.words), config.geometry)
        nn.init.normal_(self.output.weight, std=0.01)
        nn.init.zeros_(self.output.bias)
        # A prior of about one centre in a hundred cells keeps the first steps calm (RetinaNet).
        nn.init.constant_(self.output.bias[:1], -4.6)
        nn.init.constant_(self.output.bias[5 : 5 + len(config.words)], -3.0)

    def forward(self, pyramid: list[Tensor]) -> DenseMaps:
        fine, middle, coarse = pyramid
        size = middle.shape[-2:]
        x = self.down(fine) + self.middle(middle)
        x = x + functional.interpolate(self.coarse(coarse), size=size, mode='nearest')
        x = self.blocks(functional.relu(x))
        up = functional.interpolate(x, size=fine.shape[-2:], mode='nearest')
        x = self.merge(functional.relu(up + self.fine(fine)))
        heat, edges, words, geometry = self.output(x).split(self.splits, dim=1)
        return DenseMaps(heat, functional.softplus(edges), words, geometry, x)


class RegionVisionModel(nn.Module):
    """Backbone, dense head and selection of the best regions."""

    def __init__(self, config: RegionVisionConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = EfficientNetLite0()
        self.head = RegionHead(config)

    def forward(self, image: Tensor) -> Regions:
        """Args: image: (B, 3, H, W) of the configured size, RGB in [0, 1]."""
        return self.select(self.head(self.backbone(image)))

    def select(self, maps: DenseMaps) -> Regions:
        """The `regions` strongest peaks of the heat map (one within 3x3 cells), left to right."""
        heat = torch.sigmoid(maps.heat)
        peaks = heat * (functional.max_pool2d(heat, 3, 1, 1) == heat).to(heat.dtype)
        rows, columns = heat.shape[-2:]
        score, cell = torch.topk(peaks.flatten(1), self.config.regions, dim=1)
        edges = _gather(maps.edges, cell)
        x = (cell % columns).to(heat.dtype) + 0.5
        y = torch.div(cell, columns, rounding_mode='floor').to(heat.dtype) + 0.5
        left, top, right, bottom = edges.unbind(-1)
        boxes = torch.stack(
            (
                ((x - left) / columns).clamp(0, 1),
                ((y - top) / rows).clamp(0, 1),
                ((x + right) / columns).clamp(0, 1),
                ((y + bottom) / rows).clamp(0, 1),
            ),
            dim=-1,
        )
        regions = Regions(
            score,
            boxes,
            torch.sigmoid(_gather(maps.words, cell)),
            _gather(maps.geometry, cell),
            _gather(maps.appearance, cell),
        )
        return left_to_right(regions)


def mirror(regions: Regions) -> Regions:
    """The regions of the mirrored picture, left and right exchanged."""
    x1, y1, x2, y2 = regions.boxes.unbind(-1)
    return left_to_right(replace(regions, boxes=torch.stack((1 - x2, y1, 1 - x1, y2), dim=-1)))


def left_to_right(regions: Regions) -> Regions:
    """Sort the regions by the horizontal centre of their boxes."""
    centre = regions.boxes[..., 0] + regions.boxes[..., 2]
    # topk of the negated centres: ONNX has no argsort of its own.
    order = torch.topk(-centre, centre.shape[1], dim=1).indices

    def pick(x: Tensor) -> Tensor:
        if x.ndim == 2:
            return x.gather(1, order)
        return x.gather(1, order.unsqueeze(-1).expand(-1, -1, x.shape[-1]))

    return regions.map(pick)


def _gather(maps: Tensor, cell: Tensor) -> Tensor:
    """(B,C,h,w) at flat cells (B,K) -> (B,K,C)."""
    flat = maps.flatten(2).transpose(1, 2)
    return flat.gather(1, cell.unsqueeze(-1).expand(-1, -1, flat.shape[-1]))
