"""What decoding did, counted: for diagnostics and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class _Token(Protocol):
    @property
    def forced(self) -> bool: ...


@dataclass
class Counts:
    """Sums over answers.

    answers: begun. prompt: positions of their prompts, visual tokens included. reused: those of
    them that were cached, or are computed for another question about the picture. passes: of the
    decoder. tokens: of the answers. forced: those of them that the grammar gave. drafted: tokens
    proposed by drafts. accepted: those that the model chose too. seconds: spent on passes and
    choices.
    """

    answers: int = 0
    prompt: int = 0
    reused: int = 0
    passes: int = 0
    tokens: int = 0
    forced: int = 0
    drafted: int = 0
    accepted: int = 0
    seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens of answers per second of decoding, prompts included; 0 before the first."""
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def reuse_rate(self) -> float:
        """Share of prompts' positions that did not have to be computed."""
        return self.reused / self.prompt if self.prompt else 0.0

    @property
    def acceptance_rate(self) -> float:
        """Share of drafted tokens that the model chose too."""
        return self.accepted / self.drafted if self.drafted else 0.0

    def add_prompt(self, length: int, reused: int) -> None:
        """Count the beginning of an answer."""
        self.answers += 1
        self.prompt += length
        self.reused += reused

    def add_pass(self, seconds: float) -> None:
        """Count a forward pass, of however many answers."""
        self.passes += 1
        self.seconds += seconds

    def add_tokens(self, tokens: Sequence[_Token], drafted: int, accepted: int) -> None:
        """Count what came of a pass for one answer."""
        self.tokens += len(tokens)
        self.forced += sum(token.forced for token in tokens)
        self.drafted += drafted
        self.accepted += accepted
