"""The whole model: image features once, then any number of prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from unifiedmllm_ros.experts.seem.backbone import FocalNet
from unifiedmllm_ros.experts.seem.configuration import SeemConfig
from unifiedmllm_ros.experts.seem.decoder import Queries, QueryDecoder, Region
from unifiedmllm_ros.experts.seem.pixel_decoder import PixelDecoder

STRIDE = 32
_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True, eq=False)
class Features:
    """An image, ready for prompts.

    maps: of the backbone; encoded: out of the transformer; scales: at strides 32, 16 and 8;
    mask_features: (1, dim, h / 4, w / 4); size: (height, width) before padding;
    padded: after it.
    """

    maps: list[Any]
    encoded: Any
    scales: list[Any]
    mask_features: Any
    size: tuple[int, int]
    padded: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Found:
    """The answer to one prompt.

    scores: (1, queries); query: index of the best; mask: (height, width) logits, inside is > 0.
    """

    queries: Queries
    scores: Any
    query: int
    mask: Any


def normalised_pixels(image: Any) -> Any:
    """Return (3, h, w) RGB of 0..255 as (1, 3, H, W), padded right and below to the stride."""
    mean, std = (torch.tensor(x, device=image.device)[:, None, None] for x in (_MEAN, _STD))
    pixels = (image.float() - mean) / std
    return _padded(pixels)[None]


def _padded(x: Any) -> Any:
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % STRIDE, 0, -height % STRIDE))


class SeemModel(nn.Module):
    """SEEM; module names are those of the published checkpoints."""

    def __init__(self, config: SeemConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = FocalNet(config.backbone)
        self.sem_seg_head = nn.Module()
        self.sem_seg_head.pixel_decoder = PixelDecoder(
            self.backbone.widths,
            config.dim,
            config.heads,
            config.feedforward,
            config.encoder_layers,
        )
        self.sem_seg_head.predictor = QueryDecoder(config)

    @property
    def decoder(self) -> QueryDecoder:
        """The query decoder."""
        return self.sem_seg_head.predictor

    def features(self, image: Any) -> Features:
        """Return the features of an image, (3, h, w) RGB of 0..255."""
        pixels = normalised_pixels(image).to(self.decoder.class_embed.dtype)
        maps = self.backbone(pixels)
        mask_features, encoded, scales = self.sem_seg_head.pixel_decoder(maps)
        height, width = image.shape[-2:]
        padded = (pixels.shape[-2], pixels.shape[-1])
        return Features(maps, encoded, scales, mask_features, (height, width), padded)

    def region(self, features: Features, mask: Any, generator: Any = None) -> Region:
        """Return a region of the image as a prompt, for this image or as example for another.

        mask: (h, w) bool, a stroke, a filled box or any shape, with at least one pixel.
        generator: draws the points of a large region.
        """
        return self.decoder.region(
            features.scales, features.mask_features, _padded(mask), generator
        )

    def find_region(self, features: Features, region: Region) -> Found:
        """Return the thing in the image that a region shows, here or in an example image."""
        queries = self.decoder(features.scales, features.mask_features, region=region)
        scores = (queries.mask_embeddings @ region.key.transpose(1, 2))[..., 0]
        return self._best(features, queries, scores)

    def find_text(self, features: Features, ids: Any, attention_mask: Any) -> Found:
        """Return the thing that a prompt names; ids and attention mask (1, tokens)."""
        every, end = self.decoder.lang_encoder.tokens(ids)
        text = every[attention_mask.bool()][:, None]
        queries = self.decoder(features.scales, features.mask_features, text=text)
        scores = self.decoder.lang_encoder.prompt_scores(queries.class_embeddings, end)
        return self._best(features, queries, scores)

    def find_all(self, features: Features, classes: Any) -> tuple[Any, Any]:
        """Return class logits (queries, classes) and mask logits (queries, h, w) of all queries.

        classes: (classes, dim), the last of them the background.
        """
        queries = self.decoder(features.scales, features.mask_features)
        logits = self.decoder.lang_encoder.class_logits(queries.class_embeddings, classes)
        return logits[0], self.full_masks(features, queries.masks)[0]

    def full_masks(self, features: Features, masks: Any) -> Any:
        """Return mask logits at the size of the image, padding cut off."""
        height, width = features.size
        full = F.interpolate(masks, size=features.padded, mode='bilinear', align_corners=False)
        return full[..., :height, :width]

    def _best(self, features: Features, queries: Queries, scores: Any) -> Found:
        best = int(scores[0].argmax())
        mask = self.full_masks(features, queries.masks[:, best : best + 1])[0, 0]
        return Found(queries, scores, best, mask)
