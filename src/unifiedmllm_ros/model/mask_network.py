"""The embedded segmenter: a small U-Net that outlines the thing a box is drawn around.

It sees the crop around the box and where in the crop the box lies. Nothing in it knows names, so
it outlines whatever the box holds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CROP = 96
MARGIN = 0.25  # of the box's width and height, on each side


class ConvUnit(nn.Sequential):
    """3x3 convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )


class MaskNetwork(nn.Module):
    """(N, 4, 96, 96) crops, RGB in [0, 1] and the box's indicator -> (N, 96, 96) logits."""

    def __init__(self, widths: tuple[int, int, int, int] = (24, 48, 80, 96)) -> None:
        super().__init__()
        a, b, c, d = widths
        self.down1 = nn.Sequential(ConvUnit(4, a, 2), ConvUnit(a, a))
        self.down2 = nn.Sequential(ConvUnit(a, b, 2), ConvUnit(b, b))
        self.down3 = nn.Sequential(ConvUnit(b, c, 2), ConvUnit(c, c))
        self.down4 = nn.Sequential(ConvUnit(c, d, 2), ConvUnit(d, d), ConvUnit(d, d))
        self.up3 = nn.Sequential(nn.Conv2d(d + c, c, 1), ConvUnit(c, c))
        self.up2 = nn.Sequential(nn.Conv2d(c + b, b, 1), ConvUnit(b, b))
        self.up1 = nn.Sequential(nn.Conv2d(b + a, a, 1), ConvUnit(a, a))
        # Four logits a cell of 2x2 pixels: full resolution without a full-resolution layer.
        self.output = nn.Conv2d(a, 4, 1)

    def forward(self, crops: Tensor) -> Tensor:
        x1 = self.down1(torch.cat((crops[:, :3] - 0.5, crops[:, 3:] - 0.5), dim=1))
        x2 = self.down2(x1)
        x3 = self.down3(x2)
        x4 = self.down4(x3)
        x = self.up3(torch.cat((_double(x4), x3), dim=1))
        x = self.up2(torch.cat((_double(x), x2), dim=1))
        x = self.up1(torch.cat((_double(x), x1), dim=1))
        return functional.pixel_shuffle(self.output(x), 2).squeeze(1)


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode='nearest')
