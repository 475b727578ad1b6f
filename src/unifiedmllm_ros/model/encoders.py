"""Encoders by configuration: the region encoder, or any vision encoder of `transformers`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PretrainedConfig

from unifiedmllm_ros.model.configuration import RegionVisionConfig, UnifiedMLLMConfig
from unifiedmllm_ros.model.projectors import MLPProjector, RegionProjector
from unifiedmllm_ros.model.regions import Regions, RegionVisionModel

Channels = list[float] | None


class RegionImageTower(nn.Module):
    """Region encoder and its projector: an image becomes (B, K, D) embeddings."""

    def __init__(self, config: RegionVisionConfig, hidden_size: int, scale: float) -> None:
        super().__init__()
        self.encoder = RegionVisionModel(config)
        self.projector = RegionProjector(config, hidden_size, scale)
        self.frame_width = hidden_size

    def frame_features(self, pixel_values: Tensor, word_embeddings: Tensor) -> Tensor:
        """What the video branch sees of a frame: its region tokens, (B, K, frame_width)."""
        return self(pixel_values, word_embeddings)

    def forward(self, pixel_values: Tensor, word_embeddings: Tensor) -> Tensor:
        return self.project(self.encoder(pixel_values), word_embeddings)

    def project(self, regions: Regions, word_embeddings: Tensor) -> Tensor:
        """Embed regions that were found before (training caches them)."""
        return self.projector(regions, word_embeddings)


class PatchImageTower(nn.Module):
    """A vision transformer of `transformers` and the two-layer adapter.

    The patch features are those of the second last layer without the class token, as LLaVA 1.5
    takes them from CLIP.
    """

    def __init__(
        self, config: PretrainedConfig, hidden_size: int, mean: Channels, std: Channels
    ) -> None:
        super().__init__()
        self.encoder = AutoModel.from_config(config)
        self.projector = MLPProjector(config.hidden_size, hidden_size)
        self.patches = (config.image_size // config.patch_size) ** 2
        self.frame_width = config.hidden_size
        self.mean, self.std = mean, std

    def frame_features(self, pixel_values: Tensor, word_embeddings: Tensor | None = None) -> Tensor:
        """What the video branch sees of a frame: its patches, (B, patches, frame_width)."""
        if self.mean is not None and self.std is not None:
            mean, std = (_channels(pixel_values, values) for values in (self.mean, self.std))
            pixel_values = (pixel_values - mean) / std
        states: Any = self.encoder(pixel_values, output_hidden_states=True).hidden_states[-2]
        return states[:, -self.patches :]

    def forward(self, pixel_values: Tensor, word_embeddings: Tensor | None = None) -> Tensor:
        return self.projector(self.frame_features(pixel_values))


def build_image_tower(config: UnifiedMLLMConfig, scale: float) -> nn.Module:
    """Image encoder with its projector."""
    hidden_size = config.text_config.hidden_size
    if isinstance(config.vision_config, RegionVisionConfig):
        return RegionImageTower(config.vision_config, hidden_size, scale)
    vision = getattr(config.vision_config, 'vision_config', config.vision_config)
    return PatchImageTower(vision, hidden_size, config.pixel_mean, config.pixel_std)


def _channels(pixels: Tensor, values: list[float]) -> Tensor:
    """(C, 1, 1) of a number for each channel, made on the device: nothing comes from the CPU."""
    return torch.cat([pixels.new_full((1, 1, 1), value) for value in values])
