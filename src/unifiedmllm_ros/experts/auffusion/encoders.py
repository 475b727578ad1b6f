"""The text encoders of Auffusion's layout with several of them, at work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from unifiedmllm_ros.experts.auffusion.prompts import ConditionAdapter, embeddings

# Tokens that are read by an encoder whose tokenizer has no limit.
_MOST_TOKENS = 512


@dataclass(frozen=True, eq=False)
class TextCondition:
    """A text encoder with its tokenizer and its adapter.

    tokens: how many of its states are kept.
    """

    tokenizer: Any
    encoder: Any
    adapter: ConditionAdapter
    tokens: int

    @property
    def limit(self) -> int:
        """The number of tokens that the encoder reads."""
        return min(self.tokenizer.model_max_length, _MOST_TOKENS)

    def embed(self, prompt: str) -> Any:
        """Return the embedding of a prompt, (1, tokens, width of the U-Net)."""
        read = self.tokenizer(
            prompt, truncation=True, max_length=self.limit, return_tensors='pt', verbose=False
        )
        device = self.encoder.device
        states = self.encoder(
            input_ids=read.input_ids.to(device), attention_mask=read.attention_mask.to(device)
        ).last_hidden_state
        return embeddings([states], [self.adapter], self.tokens)

    def surplus(self, prompt: str) -> int:
        """Return how many tokens of a prompt are left out."""
        count = len(self.tokenizer(prompt, truncation=False, verbose=False).input_ids)
        return max(count - min(self.limit, self.tokens), 0)


@dataclass(frozen=True, eq=False)
class TextConditions:
    """All text encoders of a folder."""

    parts: tuple[TextCondition, ...]

    def embed(self, prompt: str, between: Callable[[], None]) -> Any:
        """Return the embedding of a prompt, (1, tokens of all encoders, width of the U-Net).

        between: called before each encoder; may raise to stop.
        """
        found = []
        with torch.no_grad():
            for part in self.parts:
                between()
                found.append(part.embed(prompt))
        return torch.cat(found, dim=1)

    def notices(self, prompt: str, what: str) -> tuple[str, ...]:
        """Return one sentence for each text encoder that does not read all of a prompt.

        what: what the prompt is called, such as 'prompt'.
        """
        counts = [(index, part.surplus(prompt)) for index, part in enumerate(self.parts)]
        return tuple(
            f'The last {count} tokens of the {what} were left out by text encoder {index}.'
            for index, count in counts
            if count
        )
