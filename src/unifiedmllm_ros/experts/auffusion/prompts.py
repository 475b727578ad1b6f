"""The prompt embeddings of Auffusion's layout with several text encoders.

The states of each encoder, brought to 77 tokens, go through an adapter of their own; all then stand
one after the other along the token axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

TOKENS = 77


class ConditionAdapter(nn.Module):
    """A linear layer and a LayerNorm, from an encoder's width to that of the diffusion model."""

    def __init__(self, condition_dim: int, cross_attention_dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(condition_dim, cross_attention_dim)
        self.norm = nn.LayerNorm(cross_attention_dim)

    def forward(self, x: Any) -> Any:
        """(batch, tokens, condition_dim) -> (batch, tokens, cross_attention_dim)."""
        return self.norm(self.proj(x))


def to_length(states: Any, tokens: int = TOKENS) -> Any:
    """Return states (batch, any, width) cut, or filled up with zeros, to `tokens`."""
    states = states[:, :tokens]
    return nn.functional.pad(states, (0, 0, 0, tokens - states.shape[1]))


def embeddings(states: Sequence[Any], adapters: Sequence[nn.Module], tokens: int = TOKENS) -> Any:
    """Return the embedding (1, encoders * tokens, width) of one prompt.

    states: of each encoder, its last hidden states (1, any, its width).
    """
    pairs = zip(states, adapters, strict=True)
    return torch.cat([adapt(to_length(one, tokens)) for one, adapt in pairs], dim=1)
