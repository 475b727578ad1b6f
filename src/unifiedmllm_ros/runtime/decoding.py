"""Constrained greedy decoding: the best token that the grammar allows, forced tokens for free.

A token that has no alternative is appended without asking the model; its keys and values are
computed together with the next token that needs asking ("jump-ahead"), so a box costs four
forward passes instead of eleven. The answer is the same as that of a loop over single tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unifiedmllm_ros.cancellation import Cancel, check, never
from unifiedmllm_ros.errors import InstructionError, ModelError
from unifiedmllm_ros.runtime.context import Context
from unifiedmllm_ros.runtime.engine import Array
from unifiedmllm_ros.runtime.grammar import Grammar, Mask

MAX_TOKENS = 256
_CLOSING_ROOM = 48  # positions kept free to bring any answer to its end
_NEAR = 20  # thousandths around a coordinate that count as agreement with it


@dataclass(frozen=True)
class DecodedToken:
    """One token of an answer.

    logprob: natural logarithm of its probability among the allowed tokens; 0 where it was forced.
    confidence: of the box that this token closes, in [0, 1]; None for all other tokens.
    """

    id: int
    logprob: float
    forced: bool
    confidence: float | None = None


class Decoder:
    """Writes answers: a grammar and the choice of tokens. Holds no state between answers."""

    def __init__(self, grammar: Grammar, max_tokens: int = MAX_TOKENS) -> None:
        """Set the number of tokens after which an answer is brought to its end grammatically."""
        self.grammar = grammar
        self.max_tokens = max_tokens

    def stream(
        self, context: Context, prompt: Sequence[int], cancel: Cancel = never
    ) -> Iterator[DecodedToken]:
        """Append `prompt` to the context, then the answer, token by token, <eos> included.

        At the end the context holds prompt and answer, except for the last tokens that nothing
        had to be computed for. Raises Cancelled before the next forward pass once `cancel()` is
        True, ModelError for logits that are not finite, InstructionError where the sequence
        outgrows the model.
        """
        limit = min(self.max_tokens, _room(context, prompt))
        state, waiting, count = self.grammar.start(), list(prompt), 0
        box: list[float] = []
        while not state.finished:
            check(cancel, 'decoding')
            logits = _finite(context.append(waiting)[-1, : self.grammar.vocab_size])
            mask = state.allowed(closing=count >= limit)
            chosen = _choose(logits, mask)
            if state.at_coordinate:
                box.append(self._agreement(logits, chosen))
            waiting, state = [chosen], state.advance(chosen)
            yield DecodedToken(chosen, _logprob(logits, mask, chosen), forced=False)
            while (forced := state.forced) is not None:
                waiting.append(forced)
                state = state.advance(forced)
                confidence = _geometric_mean(box) if forced == self.grammar.box_close else None
                yield DecodedToken(forced, 0.0, forced=True, confidence=confidence)
                if confidence is not None:
                    box = []
            count += len(waiting)

    def _agreement(self, logits: Array, chosen: int) -> float:
        """Return the share of a coordinate's neighbourhood in the mass of all numbers."""
        first = self.grammar.first_number
        scores = logits[first : self.grammar.last_number + 1].astype(np.float64)
        mass = np.exp(scores - scores.max())
        place = chosen - first
        near = mass[max(place - _NEAR, 0) : place + _NEAR + 1]
        return float(near.sum() / mass.sum())


def _room(context: Context, prompt: Sequence[int]) -> int:
    room = context.room - len(prompt) - _CLOSING_ROOM
    if room <= 0:
        raise InstructionError(
            f'the conversation takes {context.length + len(prompt)} of '
            f'{context.length + context.room} positions and leaves no room for an answer; '
            'shorten the instruction or begin a new conversation'
        )
    return room


def _finite(logits: Array) -> Array:
    if not np.isfinite(logits).all():
        raise ModelError(
            'the model gave logits that are not finite (NaN or infinite): the answer is refused; '
            'check the model files and the precision of the engine'
        )
    return logits


def _choose(logits: Array, mask: Mask) -> int:
    return int(np.where(mask, logits, -np.inf).argmax())


def _logprob(logits: Array, mask: Mask, chosen: int) -> float:
    scores: npt.NDArray[np.float64] = logits[mask].astype(np.float64)
    highest = scores.max()
    return float(logits[chosen] - highest - np.log(np.exp(scores - highest).sum()))


def _geometric_mean(shares: Sequence[float]) -> float:
    return math.prod(shares) ** (1 / len(shares))
