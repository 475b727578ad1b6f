"""The query decoder: object queries that read the image, and prompts that they attend to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from unifiedmllm_ros.experts.seem.configuration import SeemConfig
from unifiedmllm_ros.experts.seem.language import LanguageEncoder
from unifiedmllm_ros.experts.seem.pixel_decoder import sine_positions


@dataclass(frozen=True, eq=False)
class Region:
    """A region as the decoder sees it.

    tokens: for each level (points, 1, dim), features of the image at the region's points.
    key: (1, 1, dim), the mean of the mask features there; the query whose mask embedding is most
    like it is the answer.
    """

    tokens: tuple[Any, ...]
    key: Any


@dataclass(frozen=True, eq=False)
class Queries:
    """What the decoder says of an image, for each object query.

    masks: (1, queries, h / 4, w / 4) logits; mask_embeddings, class_embeddings: (1, queries, dim).
    """

    masks: Any
    mask_embeddings: Any
    class_embeddings: Any


class CrossAttention(nn.Module):
    """Queries look at the cells of one level, where their masks are."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(dim, heads)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Any, places: Any, cells: Any, positions: Any, hidden: Any) -> Any:
        """(queries, 1, dim) -> the same shape; `hidden` (queries, cells) is True where unseen."""
        seen = self.multihead_attn(
            x + places, cells + positions, cells, attn_mask=hidden, need_weights=False
        )
        return self.norm(x + seen[0])


class SelfAttention(nn.Module):
    """Queries and prompt tokens look at each other."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, heads)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Any, places: Any, hidden: Any) -> Any:
        """(tokens, 1, dim) -> the same shape; `hidden` (tokens, tokens) is True where unseen."""
        placed = x + places
        return self.norm(
            x + self.self_attn(placed, placed, x, attn_mask=hidden, need_weights=False)[0]
        )


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between them, added to the input."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Any) -> Any:
        """(..., dim) -> the same shape."""
        return self.norm(x + self.linear2(F.relu(self.linear1(x))))


class MaskEmbedding(nn.Module):
    """Three linear layers with ReLUs between them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(3))

    def forward(self, x: Any) -> Any:
        """(..., dim) -> the same shape."""
        first, second, third = self.layers
        return third(F.relu(second(F.relu(first(x)))))


class QueryDecoder(nn.Module):
    """Object queries, refined layer by layer over the levels of the image."""

    def __init__(self, config: SeemConfig) -> None:
        super().__init__()
        dim, layers = config.dim, range(config.decoder_layers)
        self.levels, self.points = config.levels, config.points
        self.transformer_cross_attention_layers = nn.ModuleList(
            CrossAttention(dim, config.heads) for _ in layers
        )
        self.transformer_self_attention_layers = nn.ModuleList(
            SelfAttention(dim, config.heads) for _ in layers
        )
        self.transformer_ffn_layers = nn.ModuleList(
            FeedForward(dim, config.feedforward) for _ in layers
        )
        self.decoder_norm = nn.LayerNorm(dim)
        self.query_feat = nn.Embedding(config.queries, dim)
        self.query_embed = nn.Embedding(config.queries, dim)
        self.level_embed = nn.Embedding(config.levels, dim)
        self.pn_indicator = nn.Embedding(2, dim)
        self.class_embed = nn.Parameter(torch.zeros(dim, dim))
        self.mask_embed = MaskEmbedding(dim)
        self.mask_sptial_embed = nn.ParameterList(
            nn.Parameter(torch.zeros(dim, dim)) for _ in range(config.levels)
        )
        self.lang_encoder = LanguageEncoder(
            config.text_width,
            config.text_heads,
            config.text_layers,
            config.vocabulary,
            config.context,
            dim,
        )

    def region(self, scales: list[Any], features: Any, mask: Any, generator: Any) -> Region:
        """Return the region of a mask, (h, w) bool at the size of the padded image.

        Of a region with more than `points` pixels as many are drawn with `generator`, for the key
        and for each level.
        """
        key = _sampled(features, self._places(mask, generator)).mean(dim=0, keepdim=True)
        tokens = []
        for level, (scale, mixing) in enumerate(zip(scales, self.mask_sptial_embed, strict=True)):
            x = scale + self.level_embed.weight[level][None, :, None, None]
            x = (x.permute(0, 2, 3, 1) @ mixing).permute(0, 3, 1, 2)
            tokens.append(_sampled(x, self._places(mask, generator)) + self.pn_indicator.weight[0])
        return Region(tuple(tokens), key)

    def _places(self, mask: Any, generator: Any) -> Any:
        places = mask.nonzero()
        if len(places) > self.points:
            order = torch.randperm(len(places), generator=generator)[: self.points]
            places = places[order.to(places.device)]
        return places / torch.tensor(mask.shape, device=mask.device)

    def forward(
        self, scales: list[Any], features: Any, region: Region | None = None, text: Any = None
    ) -> Queries:
        """Return what the queries find; prompted by a region, by text (tokens, 1, dim) or not."""
        queries, places = self.query_feat.weight[:, None], self.query_embed.weight[:, None]
        cells, positions = self._cells(scales)
        found = self._heads(queries, features)
        prompt, carried = text, text
        for index, cross in enumerate(self.transformer_cross_attention_layers):
            level = index % self.levels
            hidden = _hidden(found.masks, scales[level].shape[-2:])
            queries = cross(queries, places, cells[level], positions[level], hidden)
            if region is not None:
                prompt = carried = region.tokens[level]
            queries, carried = self._exchange(index, queries, places, carried, prompt, text)
            found = self._heads(queries, features)
        return found

    def _cells(self, scales: list[Any]) -> tuple[list[Any], list[Any]]:
        cells, positions = [], []
        for scale, embedding in zip(scales, self.level_embed.weight, strict=True):
            places = sine_positions(scale)
            cells.append((scale.flatten(2) + embedding[None, :, None]).permute(2, 0, 1))
            positions.append(places.flatten(2).permute(2, 0, 1))
        return cells, positions

    def _exchange(
        self, index: int, queries: Any, places: Any, carried: Any, prompt: Any, text: Any
    ) -> tuple[Any, Any]:
        """Self-attention and feed-forward over the queries and the tokens of the prompt."""
        count = len(queries)
        x, hidden = queries, None
        if carried is not None:
            x, places = torch.cat((queries, carried)), torch.cat((places, prompt))
            hidden = torch.zeros(len(x), len(x), dtype=torch.bool, device=x.device)
            # Text sees the queries; a region sees only itself.
            hidden[count:, :count] = text is None
        x = self.transformer_self_attention_layers[index](x, places, hidden)
        x = self.transformer_ffn_layers[index](x)
        return x[:count], (x[count:] if carried is not None else None)

    def _heads(self, queries: Any, features: Any) -> Queries:
        x = self.decoder_norm(queries).transpose(0, 1)
        embeddings = self.mask_embed(x)
        masks = torch.einsum('bqc,bchw->bqhw', embeddings, features)
        return Queries(masks, embeddings, x @ self.class_embed)


def _hidden(masks: Any, size: tuple[int, int]) -> Any:
    """Cells outside each query's mask, (queries, cells); a query without any cell sees all."""
    small = F.interpolate(masks, size=size, mode='bilinear', align_corners=False)
    hidden = small[0].flatten(1).sigmoid() < 0.5
    return hidden & ~hidden.all(dim=1, keepdim=True)


def _sampled(features: Any, places: Any) -> Any:
    """Features at places (points, 2) of rows and columns in [0, 1] -> (points, 1, dim)."""
    grid = (2 * places.flip(1) - 1)[None, None].to(features.dtype)
    return F.grid_sample(features, grid, align_corners=True)[0, :, 0].t()[:, None]
