"""Encoders by configuration: the region encoder, or any vision encoder of `transformers`."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AutoModel, PretrainedConfig

from unifiedmllm_ros.model.configuration import RegionVisionConfig
from unifiedmllm_ros.model.projectors import MLPProjector, RegionProjector
from unifiedmllm_ros.model.regions import Regions, RegionVisionModel


class RegionImageTower(nn.Module):
    """Region encoder and its projector: an image becomes (B, K, D) embeddings."""

    def __init__(self, config: RegionVisionConfig, hidden_size: int, scale: float) -> None:
        super().__init__()
        self.encoder = RegionVisionModel(config)
        self.projector = RegionProjector(config, hidden_size, scale)

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

    def __init__(self, config: PretrainedConfig, hidden_size: int) -> None:
        super().__init__()
        self.encoder = AutoModel.from_config(config)
        self.projector = MLPProjector(config.hidden_size, hidden_size)
        self.patches = (config.image_size // config.patch_size) ** 2

    def forward(self, pixel_values: Tensor, word_embeddings: Tensor | None = None) -> Tensor:
        states: Any = self.encoder(pixel_values, output_hidden_states=True).hidden_states[-2]
        return self.projector(states[:, -self.patches :])


def build_image_tower(config: PretrainedConfig, hidden_size: int, scale: float) -> nn.Module:
    """Image encoder with its projector for a vision configuration."""
    if isinstance(config, RegionVisionConfig):
        return RegionImageTower(config, hidden_size, scale)
    vision = getattr(config, 'vision_config', config)
    return PatchImageTower(vision, hidden_size)
