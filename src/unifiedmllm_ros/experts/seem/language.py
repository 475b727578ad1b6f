"""The text tower: a causal transformer in the manner of CLIP, and similarities with its output."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_EPS = 1e-12
_TINY = 1e-7


class TextMLP(nn.Module):
    """Two linear layers with QuickGELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        """(..., width) -> (..., width)."""
        x = self.c_fc(x)
        return self.c_proj(x * torch.sigmoid(1.702 * x))


class TextBlock(nn.Module):
    """Causal self-attention and feed-forward, norms inside the branches."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width, eps=_EPS), nn.LayerNorm(width, eps=_EPS)
        self.mlp = TextMLP(width)

    def forward(self, x: Any, mask: Any) -> Any:
        """(n, tokens, width) -> the same shape."""
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class TextTransformer(nn.Module):
    """Token ids to one vector for each token."""

    def __init__(self, width: int, heads: int, layers: int, vocabulary: int, context: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.zeros(context, width))
        self.resblocks = nn.ModuleList(TextBlock(width, heads) for _ in range(layers))
        self.ln_final = nn.LayerNorm(width, eps=_EPS)

    def forward(self, ids: Any) -> Any:
        """(n, tokens) -> (n, tokens, width)."""
        count = ids.shape[1]
        x = self.token_embedding(ids) + self.positional_embedding[:count]
        mask = torch.full((count, count), float('-inf'), dtype=x.dtype, device=x.device).triu(1)
        for block in self.resblocks:
            x = block(x, mask)
        return self.ln_final(x)


def normalised(x: Any) -> Any:
    """Return vectors of length one."""
    return x / (x.norm(dim=-1, keepdim=True) + _TINY)


class LanguageEncoder(nn.Module):
    """Prompts as vectors in the space of the class embeddings."""

    def __init__(
        self, width: int, heads: int, layers: int, vocabulary: int, context: int, dim: int
    ) -> None:
        super().__init__()
        self.lang_encoder = TextTransformer(width, heads, layers, vocabulary, context)
        self.lang_proj = nn.Parameter(torch.zeros(width, dim))
        self.logit_scale = nn.Parameter(torch.ones([]))

    def tokens(self, ids: Any) -> tuple[Any, Any]:
        """(n, tokens) ids -> all tokens (n, tokens, dim), and the last of each prompt (n, dim).

        The last is the end token: the one with the largest id.
        """
        every = self.lang_encoder(ids) @ self.lang_proj
        return every, every[torch.arange(len(ids), device=ids.device), ids.argmax(dim=-1)]

    def class_embeddings(self, ids: Any) -> Any:
        """(classes, templates, tokens) ids -> (classes, dim), the normalised mean of prompts."""
        each = normalised(self.tokens(ids.flatten(0, 1))[1])
        return normalised(each.unflatten(0, ids.shape[:2]).mean(dim=1))

    def class_logits(self, queries: Any, classes: Any) -> Any:
        """(n, queries, dim) and (classes, dim) -> (n, queries, classes)."""
        return self.logit_scale.exp() * normalised(queries) @ classes.t()

    def prompt_scores(self, queries: Any, prompt: Any) -> Any:
        """(n, queries, dim) and (1, dim) -> how well each query fits the prompt, (n, queries)."""
        scale = self.logit_scale.exp().clamp(max=100)
        return scale * (normalised(queries) @ normalised(prompt).t())[..., 0]
