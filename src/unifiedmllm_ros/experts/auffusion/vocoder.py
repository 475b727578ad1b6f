"""HiFi-GAN's generator (Kong et al., 2020, arXiv 2010.05646): log-mel energies become a wave.

Weights come with weight normalisation (Salimans and Kingma, 2016) split into direction and length;
they are joined when they are loaded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import nn
from torch.nn import functional

from unifiedmllm_ros.errors import ModelFileError
from unifiedmllm_ros.experts.auffusion.mel import HOP

_SLOPE = 0.1
_LAST_SLOPE = 0.01
_EDGE_KERNEL = 7

Size = Annotated[int, Field(ge=1, le=4096)]


class VocoderConfig(BaseModel):
    """The published config.json of a vocoder; what else it says is for training."""

    model_config = ConfigDict(extra='ignore', frozen=True)

    resblock: Literal['1', '2'] = '1'
    num_mels: Size
    upsample_initial_channel: Size
    upsample_rates: tuple[Size, ...] = Field(min_length=1, max_length=12)
    upsample_kernel_sizes: tuple[Size, ...]
    resblock_kernel_sizes: tuple[Size, ...] = Field(min_length=1, max_length=12)
    resblock_dilation_sizes: tuple[tuple[Size, ...], ...]

    @model_validator(mode='after')
    def _check_sizes(self) -> VocoderConfig:
        rates, kernels = self.upsample_rates, self.upsample_kernel_sizes
        if math.prod(rates) != HOP:
            raise ValueError(f'upsample_rates {rates} multiply to {math.prod(rates)}, not {HOP}')
        if len(rates) != len(kernels) or any(k < u for u, k in zip(rates, kernels, strict=True)):
            raise ValueError(f'upsample_kernel_sizes {kernels} do not cover the rates {rates}')
        if len(self.resblock_kernel_sizes) != len(self.resblock_dilation_sizes):
            raise ValueError('resblock_dilation_sizes are not one for each resblock_kernel_sizes')
        if self.upsample_initial_channel >> len(rates) < 1:
            raise ValueError(
                f'upsample_initial_channel {self.upsample_initial_channel} cannot be halved '
                f'{len(rates)} times'
            )
        return self


class ResidualBlock(nn.Module):
    """Dilated convolutions with a way around them; kind 1 has a second, plain one after each."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...], kind: str) -> None:
        super().__init__()
        first = nn.ModuleList(_same(channels, kernel, dilation) for dilation in dilations)
        if kind == '1':
            self.convs1 = first
            self.convs2 = nn.ModuleList(_same(channels, kernel, 1) for _ in dilations)
        else:
            self.convs = first

    def forward(self, x: Any) -> Any:
        """(batch, channels, time) -> the same shape."""
        if hasattr(self, 'convs'):
            for one in self.convs:
                x = x + one(functional.leaky_relu(x, _SLOPE))
            return x
        for one, two in zip(self.convs1, self.convs2, strict=True):
            inner = one(functional.leaky_relu(x, _SLOPE))
            x = x + two(functional.leaky_relu(inner, _SLOPE))
        return x


class Vocoder(nn.Module):
    """The generator; parameters are named as in the published weights."""

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.upsample_initial_channel
        self.conv_pre = nn.Conv1d(config.num_mels, channels, _EDGE_KERNEL, padding='same')
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            self.ups.append(_upsampling(channels, channels // 2, rate, kernel))
            channels //= 2
            for size, dilations in zip(
                config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True
            ):
                self.resblocks.append(ResidualBlock(channels, size, dilations, config.resblock))
        self.conv_post = nn.Conv1d(channels, 1, _EDGE_KERNEL, padding='same')

    def forward(self, log_mel: Any) -> Any:
        """Log-mel energies (batch, mels, frames) -> waves (batch, 1, frames * 160) in [-1, 1]."""
        x = self.conv_pre(log_mel)
        many = len(self.config.resblock_kernel_sizes)
        for index, up in enumerate(self.ups):
            x = up(functional.leaky_relu(x, _SLOPE))
            blocks = self.resblocks[index * many : (index + 1) * many]
            x = torch.stack([block(x) for block in blocks]).mean(0)
        return torch.tanh(self.conv_post(functional.leaky_relu(x, _LAST_SLOPE)))


def _same(channels: int, kernel: int, dilation: int) -> nn.Conv1d:
    padding = dilation * (kernel - 1) // 2
    return nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=padding)


def _upsampling(before: int, after: int, rate: int, kernel: int) -> nn.ConvTranspose1d:
    """A transposed convolution that makes its input exactly `rate` times longer."""
    odd = (kernel - rate) % 2
    padding = (kernel - rate) // 2 + odd
    return nn.ConvTranspose1d(before, after, kernel, rate, padding, output_padding=odd)


def joined(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return weights without weight normalisation: each is its length times its direction."""
    found = {}
    for name, value in state.items():
        if name.endswith('.weight_v'):
            stem = name.removesuffix('_v')
            length = torch.linalg.vector_norm(value, dim=(1, 2), keepdim=True)
            found[stem] = state[f'{stem}_g'] * value / length
        elif not name.endswith('.weight_g'):
            found[name] = value
    return found


def load_vocoder(folder: Path) -> Vocoder:
    """Return the vocoder of a folder with config.json and vocoder.pt, as published.

    Raises ModelFileError where a file is missing, damaged, or does not fit the other.
    """
    config_path, path = folder / 'config.json', folder / 'vocoder.pt'
    try:
        config = VocoderConfig.model_validate_json(config_path.read_bytes())
    except OSError as error:
        raise ModelFileError(f'{config_path} cannot be read ({error.strerror})') from error
    except ValidationError as error:
        reason = '; '.join(f'{one["loc"]}: {one["msg"]}' for one in error.errors()[:3])
        raise ModelFileError(
            f'{config_path} is not that of a HiFi-GAN vocoder: {reason}'
        ) from error
    vocoder = Vocoder(config)
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)['generator']
        vocoder.load_state_dict(joined(state))
    except Exception as error:  # what is raised depends on what is wrong with the file
        reason = ' '.join(str(error).split())[:200] or type(error).__name__
        raise ModelFileError(
            f'vocoder weights {path} are missing, damaged or do not fit their config.json '
            f'({reason}): fetch the folder vocoder/ again'
        ) from error
    return vocoder.eval().requires_grad_(False)
