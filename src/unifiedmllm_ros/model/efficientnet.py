"""EfficientNet-Lite0 as a feature pyramid (Tan and Le, 2019; the Lite variant of 2020).

Lite has plain inverted residuals: ReLU6, no squeeze-and-excitation, a stem that never scales.
The parameter names are those of the published PyTorch state dict, so that it loads as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

BATCH_NORM = {'eps': 1e-3, 'momentum': 0.01}


@dataclass(frozen=True)
class Stage:
    """One stage: `repeats` blocks, the first of which has the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    inputs: int
    outputs: int


STAGES = (
    Stage(1, 3, 1, 1, 32, 16),
    Stage(2, 3, 2, 6, 16, 24),
    Stage(2, 5, 2, 6, 24, 40),
    Stage(3, 3, 2, 6, 40, 80),
    Stage(3, 5, 1, 6, 80, 112),
    Stage(4, 5, 2, 6, 112, 192),
)
# Last stage whose output is kept for each stride: 8, 16 and 32.
PYRAMID = (2, 4, 5)
PYRAMID_CHANNELS = tuple(STAGES[i].outputs for i in PYRAMID)


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow pads, the surplus on the right and below.

    The weights were trained so; symmetric padding would shift each strided map by a pixel.
    """

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[-2:]]
        rows, columns = pads
        padding = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        return super().forward(functional.pad(x, padding) if any(padding) else x)


class InvertedResidual(nn.Module):
    """Expand, filter in depth, project; a shortcut where the shapes allow."""

    def __init__(self, stage: Stage, first: bool) -> None:
        super().__init__()
        inputs = stage.inputs if first else stage.outputs
        stride = stage.stride if first else 1
        middle = inputs * stage.expansion
        self.expands = stage.expansion != 1
        if self.expands:
            self._expand_conv = nn.Conv2d(inputs, middle, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(middle, **BATCH_NORM)
        self._depthwise_conv = SameConv2d(
            middle, middle, stage.kernel, stride, groups=middle, bias=False
        )
        self._bn1 = nn.BatchNorm2d(middle, **BATCH_NORM)
        self._project_conv = nn.Conv2d(middle, stage.outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(stage.outputs, **BATCH_NORM)
        self.shortcut = stride == 1 and inputs == stage.outputs

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.shortcut else y


class EfficientNetLite0(nn.Module):
    """Feature pyramid of strides 8, 16 and 32 with 40, 112 and 192 channels."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, **BATCH_NORM)
        blocks = [
            InvertedResidual(stage, first=repeat == 0)
            for stage in STAGES
            for repeat in range(stage.repeats)
        ]
        self._blocks = nn.ModuleList(blocks)
        ends = [sum(stage.repeats for stage in STAGES[: i + 1]) - 1 for i in range(len(STAGES))]
        self.pyramid = tuple(ends[i] for i in PYRAMID)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Args: image: (B, 3, H, W), RGB in [0, 1]; H and W multiples of 32 keep cells aligned."""
        return self.tail(self.front(image))

    def front(self, image: Tensor) -> Tensor:
        """The map of stride 8 of an image."""
        # The published networks were trained on (x - 127) / 128 of 8-bit images.
        x = (image * 255.0 - 127.0) / 128.0
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks[: self.pyramid[0] + 1]:
            x = block(x)
        return x

    def tail(self, fine: Tensor) -> list[Tensor]:
        """The pyramid of strides 8, 16 and 32 over the map of stride 8."""
        maps, x = [fine], fine
        for index in range(self.pyramid[0] + 1, len(self._blocks)):
            x = self._blocks[index](x)
            if index in self.pyramid:
                maps.append(x)
        return maps

    def load_imagenet(self, path: Path | str) -> None:
        """Load the published state dict; what lies above stride 32 is left out.

        Raises: ValueError: the file lacks a tensor that this network has.
        """
        state = torch.load(path, map_location='cpu', weights_only=True)
        own = self.state_dict()
        missing = sorted(set(own) - set(state))
        if missing:
            raise ValueError(f'{path}: no tensor {missing[0]!r}; is it EfficientNet-Lite0?')
        self.load_state_dict({name: state[name] for name in own})
