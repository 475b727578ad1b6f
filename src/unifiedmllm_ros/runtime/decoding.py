"""Constrained greedy decoding: the best token that the grammar allows, forced tokens for free.

A token that has no alternative is appended without asking the model; its keys and values are
computed together with the next token that needs asking ("jump-ahead"), so a box costs four
forward passes instead of eleven. A draft of the answer saves more of them: as much of it as the
model would have chosen itself is kept. Several answers are decoded together, each at its own pace.
Every answer is that of a loop over single tokens.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from unifiedmllm_ros.cancellation import Cancel, never
from unifiedmllm_ros.errors import (
    Cancelled,
    InstructionError,
    NotFiniteError,
    UnifiedMLLMError,
)
from unifiedmllm_ros.runtime.context import Context, append_all
from unifiedmllm_ros.runtime.counts import Counts
from unifiedmllm_ros.runtime.engine import Array
from unifiedmllm_ros.runtime.grammar import Grammar, Mask
from unifiedmllm_ros.runtime.speculation import Draft

MAX_TOKENS = 256
_CLOSING_ROOM = 48  # positions kept free to bring any answer to its end
_NOT_FINITE = (
    'the model gave logits that are not finite (NaN or infinite): the answer is refused; '
    'check the model files and the precision of the engine'
)
_NEAR = 20  # thousandths around a coordinate that count as agreement with it


@dataclass(frozen=True)
class DecodedToken:
    """One token of an answer.

    logit: what the model gave it; 0 where it was forced.
    confidence: of the box that this token closes, in [0, 1]; None for all other tokens.
    """

    id: int
    logit: float
    forced: bool
    confidence: float | None = None


@dataclass(frozen=True, eq=False)
class Asked:
    """A context to append a prompt and an answer to.

    draft: a guess of the answer; it changes the number of forward passes and nothing else.
    """

    context: Context
    prompt: Sequence[int]
    cancel: Cancel = never
    draft: Draft | None = None


class Decoder:
    """Writes answers: a grammar and the choice of tokens. Holds no state between answers."""

    def __init__(self, grammar: Grammar, max_tokens: int = MAX_TOKENS) -> None:
        """Set the number of tokens after which an answer is brought to its end grammatically."""
        self.grammar = grammar
        self.max_tokens = max_tokens

    def stream(self, asked: Asked, counts: Counts | None = None) -> Iterator[DecodedToken]:
        """Append a prompt, then the answer, token by token, <eos> included; see stream_all.

        Raises Cancelled, ModelError for logits that are not finite, InstructionError where the
        sequence outgrows the model.
        """
        for _, tokens in self.stream_all([asked], counts):
            if isinstance(tokens, UnifiedMLLMError):
                raise tokens
            yield from tokens

    def stream_all(
        self, asked: Sequence[Asked], counts: Counts | None = None
    ) -> Iterator[tuple[int, list[DecodedToken] | UnifiedMLLMError]]:
        """Append prompts to contexts of one engine, then the answers, in passes over all of them.

        Gives the place of an answer among those asked with its next tokens, <eos> at last, or with
        the error that ends it: Cancelled before the next forward pass once its `cancel()` is
        True, ModelError for logits that are not finite, InstructionError where the sequence
        outgrows the model. The others go on. counts: where the work is counted.

        At the end a context holds prompt and answer, except for the last tokens that nothing had
        to be computed for.
        """
        counts = counts or Counts()
        running: list[_Answer] = []
        for place, one in enumerate(asked):
            try:
                running.append(_Answer(place, one, self._writing(one)))
            except InstructionError as error:
                yield place, error
        while running:
            for answer in [answer for answer in running if answer.asked.cancel()]:
                running.remove(answer)
                yield answer.place, Cancelled('cancelled before decoding')
            if running:
                yield from _step(running, self.grammar.vocab_size, counts)
            running = [answer for answer in running if answer.goes_on]

    def _writing(self, asked: Asked) -> Writing:
        room = _room(asked.context, asked.prompt)
        return Writing(self.grammar, min(self.max_tokens, room), asked.draft)


class _Answer:
    """An answer that is being decoded."""

    def __init__(self, place: int, asked: Asked, writing: Writing) -> None:
        self.place, self.asked, self.writing = place, asked, writing
        self.guess: list[int] = []
        self._waiting = list(asked.prompt)
        self._failed = False

    @property
    def goes_on(self) -> bool:
        return not (self._failed or self.writing.finished)

    def ahead(self, alone: bool) -> tuple[Context, list[int], int]:
        """Return what the next pass appends to the context, and how many logits it gives.

        alone: the pass is for this answer only.
        """
        context = self.asked.context
        # A pass over several prompts takes as long as its arithmetic, where one over a few
        # positions waits for the weights.
        crowded = not (alone or self.writing.begun)
        self.guess = self.writing.guess(context.room - len(self._waiting), crowded)
        return context, self._waiting + self.guess, 1 + len(self.guess)

    def take(self, logits: Array | None, counts: Counts) -> list[DecodedToken] | UnifiedMLLMError:
        """Choose tokens by the logits of a pass; None for such as are not finite."""
        context, guess = self.asked.context, self.guess
        if logits is None:
            self._failed = True
            context.truncate(context.length - len(guess) - len(self._waiting))
            return NotFiniteError(_NOT_FINITE)
        tokens, kept = self.writing.take(logits, guess)
        context.truncate(context.length - len(guess) + kept)
        self._waiting = [token.id for token in tokens[kept:]]
        counts.add_tokens(tokens, len(guess), kept)
        return tokens


def _step(
    running: Sequence[_Answer], vocab: int, counts: Counts
) -> list[tuple[int, list[DecodedToken] | UnifiedMLLMError]]:
    """Make one pass over answers; they are all in order before anybody hears of the first."""
    start = time.perf_counter()
    logits = _logits([answer.ahead(len(running) == 1) for answer in running])
    said = [
        (answer.place, answer.take(None if rows is None else rows[:, :vocab], counts))
        for answer, rows in zip(running, logits, strict=True)
    ]
    counts.add_pass(time.perf_counter() - start)
    return said


class Writing:
    """An answer that is being written: what is allowed next and what was chosen."""

    def __init__(self, grammar: Grammar, limit: int, draft: Draft | None = None) -> None:
        """limit: tokens after which the answer is brought to its end."""
        self._grammar = grammar
        self._limit = limit
        self._draft = draft
        self._state = grammar.start()
        self._count = 0
        self._box: list[float] = []

    @property
    def finished(self) -> bool:
        """Whether the answer has ended."""
        return self._state.finished

    @property
    def begun(self) -> bool:
        """Whether there is a token of the answer."""
        return self._count > 0

    def guess(self, room: int, crowded: bool = False) -> list[int]:
        """Return at most `room` tokens that the draft expects next and the grammar allows.

        crowded: see Draft.ahead.
        """
        guess: list[int] = []
        state = self._state
        expected = [] if self._draft is None else self._draft.ahead(crowded)
        for token in expected[:room]:
            closing = self._count + len(guess) >= self._limit
            if token == self._grammar.eos_id or not state.permits(token, closing):
                break
            guess.append(token)
            state = state.advance(token)
        return guess

    def take(self, rows: Array, guess: Sequence[int]) -> tuple[list[DecodedToken], int]:
        """Choose tokens by logits [1 + G, V]: those after the sequence and after each guess.

        Returns the tokens, forced ones included, up to the first that was guessed wrong, and how
        many of the first of them the guess had right.
        """
        tokens: list[DecodedToken] = []
        right = 0
        for place, logits in enumerate(rows):
            if place < len(tokens):  # forced: its place in the guess is right
                continue
            tokens.append(self._choose(logits))
            while (forced := self._state.forced) is not None:
                tokens.append(self._force(forced))
            while right < min(len(tokens), len(guess)) and tokens[right].id == guess[right]:
                right += 1
            if self.finished or right < len(tokens):
                break
        if self._draft is not None and len(tokens) < len(guess):
            self._draft.revise(len(tokens), self._numbers(rows[len(tokens) : len(guess)]))
        return tokens, right

    def _numbers(self, rows: Array) -> list[int]:
        """Return the likeliest coordinate after each row."""
        first, last = self._grammar.first_number, self._grammar.last_number
        return [first + int(place) for place in rows[:, first : last + 1].argmax(axis=1)]

    def _choose(self, logits: Array) -> DecodedToken:
        state = self._state
        if state.at_coordinate:
            possible = state.coordinates
            chosen = possible.start + int(logits[possible.start : possible.stop].argmax())
            self._box.append(self._agreement(logits, chosen))
        else:
            chosen = _choose(logits, state.allowed(closing=self._count >= self._limit))
        self._note(chosen, forced=False)
        return DecodedToken(chosen, float(logits[chosen]), forced=False)

    def _force(self, token: int) -> DecodedToken:
        confidence = None
        if token == self._grammar.box_close:
            confidence, self._box = _geometric_mean(self._box), []
        self._note(token, forced=True)
        return DecodedToken(token, 0.0, forced=True, confidence=confidence)

    def _note(self, token: int, forced: bool) -> None:
        self._state = self._state.advance(token)
        self._count += 1
        if self._draft is not None:
            self._draft.follow(token, forced)

    def _agreement(self, logits: Array, chosen: int) -> float:
        """Return the share of a coordinate's neighbourhood in the mass of all numbers."""
        first = self._grammar.first_number
        scores = logits[first : self._grammar.last_number + 1]
        mass = np.exp(scores - scores.max())
        place = chosen - first
        near = mass[max(place - _NEAR, 0) : place + _NEAR + 1]
        return float(near.sum(dtype=np.float64) / mass.sum(dtype=np.float64))


def _logits(parts: Sequence[tuple[Context, list[int], int]]) -> list[Array | None]:
    """Append to contexts; gives the logits of each, None where they are not finite."""
    logits = append_all(parts)
    finite = [_finite(each) for each in logits]
    if len(parts) > 1 and not all(finite):
        # Numbers that are not finite spoil all that is computed with them: each by itself.
        for context, ids, _ in parts:
            context.truncate(context.length - len(ids))
        logits = [append_all([part])[0] for part in parts]
        finite = [_finite(each) for each in logits]
    return [each if fine else None for each, fine in zip(logits, finite, strict=True)]


def _room(context: Context, prompt: Sequence[int]) -> int:
    room = context.room - len(prompt) - _CLOSING_ROOM
    if room <= 0:
        raise InstructionError(
            f'the conversation takes {context.length + len(prompt)} of '
            f'{context.length + context.room} positions and leaves no room for an answer; '
            'shorten the instruction or begin a new conversation'
        )
    return room


def _finite(logits: Array) -> bool:
    return bool(np.isfinite(logits).all())


def _choose(logits: Array, mask: Mask) -> int:
    best = int(logits.argmax())
    return best if mask[best] else int(np.where(mask, logits, -np.inf).argmax())


def _geometric_mean(shares: Sequence[float]) -> float:
    return math.prod(shares) ** (1 / len(shares))
