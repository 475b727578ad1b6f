"""Drafts: what an answer will probably say, taken from earlier ones, without a model of its own.

The decoder puts a draft behind the tokens that it must compute anyway and keeps as much of it as
the model itself would have chosen (speculative decoding with greedy verification, Leviathan et al.
2022, arXiv 2211.17192): a wrong draft costs a little time and changes nothing. A standing
instruction is answered nearly alike from frame to frame; the answer to "find the green bowl" is
that to "find the red mug" with other words (prompt lookup). Coordinates are seldom what they were,
but a pass over wrong ones says of each what should stand in its place, which mostly is right in the
next (Jacobi decoding, Santilli et al. 2023, arXiv 2305.10427): a box takes two or three passes
instead of four.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

REMEMBERED: Final = 64
"""Questions whose latest answers are kept."""
LONGEST: Final = 24
"""Tokens proposed at once."""
_WORTH = 0.2  # share of right guesses from which a draft saves more than it costs
_MEMORY = 0.9  # weight of the past in that share
_WINDOW = 12  # tokens of a guess in which a lost place is looked for


@dataclass
class Rate:
    """Running share of right guesses of one kind; begins where guessing is worth a try."""

    share: float = 0.5

    def add(self, right: bool) -> None:
        """Count a guess."""
        self.share = _MEMORY * self.share + (1 - _MEMORY) * right

    @property
    def pays(self) -> bool:
        """Whether such guesses are worth proposing."""
        return self.share >= _WORTH


class Draft:
    """A guessed answer that follows the true one while it is written.

    Guesses are graded whether they were proposed or not, so that a kind of guess which stopped
    paying is taken up again once it would pay.
    """

    def __init__(self, guess: Sequence[int], numbers: range, words: Rate, places: Rate) -> None:
        """numbers: ids of coordinates. words, places: how often guesses of text, of coordinates
        were right."""
        self._guess = list(guess)
        self._numbers = numbers
        self._words, self._places = words, places
        self._next = self._proposed = 0
        self._lost = False

    def ahead(self, words_only: bool = False) -> list[int]:
        """Return the tokens expected next, as far as guessing pays; may be empty.

        words_only: up to the next coordinate.
        """
        self._proposed = self._next
        if self._lost or not self._words.pays:
            return []
        expected = self._guess[self._next : self._next + LONGEST]
        if self._places.pays and not words_only:
            return expected
        return expected[: next(self._coordinates(expected), len(expected))]

    def revise(self, first: int, said: Sequence[int]) -> None:
        """Put what the model says in the place of coordinates that are still ahead.

        said: the likeliest coordinates instead of the tokens last proposed, from the `first` of
        them on, each behind the proposed ones before it, however wrong these were.
        """
        for place, token in enumerate(said, start=self._proposed + first):
            if place >= self._next and self._guess[place] in self._numbers:
                self._guess[place] = token

    def follow(self, token: int, forced: bool = False) -> None:
        """Note the next token of the true answer; guesses of forced ones are not graded."""
        expected = self._guess[self._next] if self._next < len(self._guess) else None
        if self._lost or expected is None:
            self._find(token)
            return
        numbers = self._numbers
        rate = self._places if expected in numbers and token in numbers else self._words
        if not forced:
            rate.add(expected == token)
        if expected == token or rate is self._places:
            self._next += 1
        else:
            self._find(token)

    def _find(self, token: int) -> None:
        """Go on behind the token's next occurrence in the guess, if there is one nearby."""
        window = self._guess[self._next : self._next + _WINDOW]
        self._lost = token not in window
        if not self._lost:
            self._next += window.index(token) + 1

    def _coordinates(self, tokens: Sequence[int]) -> filter[int]:
        return filter(lambda place: tokens[place] in self._numbers, range(len(tokens)))


class Drafter:
    """Remembers answers and guesses new ones from them."""

    def __init__(self, numbers: range) -> None:
        """numbers: ids of coordinates."""
        self._numbers = numbers
        self._answers: OrderedDict[tuple[int, ...], tuple[int, ...]] = OrderedDict()
        # Of words and of coordinates.
        self._repeated, self._adapted = (Rate(), Rate()), (Rate(), Rate())

    def draft(self, question: Sequence[int]) -> Draft:
        """Guess the answer to a question."""
        known = self._answers.get(tuple(question))
        if known is not None:
            return Draft(known, self._numbers, *self._repeated)
        return Draft(self._adapted_answer(question), self._numbers, *self._adapted)

    def learn(self, question: Sequence[int], answer: Sequence[int]) -> None:
        """Remember the newest answer to a question."""
        key = tuple(question)
        self._answers[key] = tuple(answer)
        self._answers.move_to_end(key)
        if len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)

    def _adapted_answer(self, question: Sequence[int]) -> list[int]:
        """Put the question's words into the answer to the newest of those most like it."""
        alike, best = None, 1
        for earlier in reversed(self._answers):
            begin, end = _shared(earlier, question)
            if begin > 0 and begin + end > best:
                alike, best = (earlier, begin, end), begin + end
        if alike is None:
            return []
        earlier, begin, end = alike
        old, new = earlier[begin : len(earlier) - end], question[begin : len(question) - end]
        return _replaced(self._answers[earlier], old, new)


def _shared(first: Sequence[int], second: Sequence[int]) -> tuple[int, int]:
    """Return how many ids two questions share at the beginning, and then at the end."""
    shorter = min(len(first), len(second))
    begin = next((i for i in range(shorter) if first[i] != second[i]), shorter)
    rest = shorter - begin
    end = next((i for i in range(rest) if first[-1 - i] != second[-1 - i]), rest)
    return begin, end


def _replaced(answer: Sequence[int], old: Sequence[int], new: Sequence[int]) -> list[int]:
    """Return an answer with each run `old` of its tokens replaced by `new`."""
    if not old:
        return list(answer)
    made: list[int] = []
    place = 0
    while place < len(answer):
        if tuple(answer[place : place + len(old)]) == tuple(old):
            made += new
            place += len(old)
        else:
            made.append(answer[place])
            place += 1
    return made
