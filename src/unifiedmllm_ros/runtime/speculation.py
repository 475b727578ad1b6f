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
from dataclasses import dataclass, field
from typing import Final

REMEMBERED: Final = 64
"""Questions whose latest answers are kept."""
LONGEST: Final = 24
"""Tokens proposed at once."""
_WORTH = 0.2  # share of right guesses from which a draft saves more than it costs
_MEMORY = 0.9  # weight of the past in that share
_FORGOTTEN = 0.02  # of it, with each draft that goes without: about every tenth tries again
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

    def forget(self) -> None:
        """Go back towards the beginning, so that what stopped paying is tried again some time."""
        self.share += _FORGOTTEN * (0.5 - self.share)


@dataclass(frozen=True)
class Rates:
    """How often guesses were right: of words, of coordinates, and of coordinates as they were in
    the answer that the draft is taken from, before the model had a say."""

    words: Rate = field(default_factory=Rate)
    places: Rate = field(default_factory=Rate)
    still: Rate = field(default_factory=Rate)


class Draft:
    """A guessed answer that follows the true one while it is written.

    Words, and coordinates as they were, are graded whether they were proposed or not. Coordinates
    that were not proposed, and are wrong, say nothing: the model had no say.
    """

    def __init__(self, guess: Sequence[int], numbers: range, rates: Rates) -> None:
        """numbers: ids of coordinates. rates: of drafts of this kind; they learn from this one."""
        self._guess, self._earlier = list(guess), tuple(guess)
        self._numbers = numbers
        self._rates = rates
        self._next = self._proposed = self._unproposed = 0
        self._lost = False

    def ahead(self, crowded: bool = False) -> list[int]:
        """Return the tokens expected next, as far as guessing pays; may be empty.

        crowded: the pass has other answers to begin too. Then coordinates that will have moved
        cost more than their revision saves, and are left out.
        """
        expected: list[int] = []
        if not self._lost and self._rates.words.pays:
            expected = self._guess[self._next : self._next + LONGEST]
        if not (self._rates.still.pays if crowded else self._rates.places.pays):
            expected = expected[: next(self._coordinates(expected), len(expected))]
        self._proposed, self._unproposed = self._next, self._next + len(expected)
        return expected

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
        placed = expected in self._numbers and token in self._numbers
        if placed:
            if self._next < self._unproposed or expected == token:
                self._rates.places.add(expected == token)
            self._rates.still.add(self._earlier[self._next] == token)
        elif not forced:
            self._rates.words.add(expected == token)
        if expected == token or placed:
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
        self._repeated, self._adapted = Rates(), Rates()

    def draft(self, question: Sequence[int]) -> Draft:
        """Guess the answer to a question."""
        known = self._answers.get(tuple(question))
        if known is not None:
            return self._draft(known, self._repeated)
        return self._draft(self._adapted_answer(question), self._adapted)

    def _draft(self, guess: Sequence[int], rates: Rates) -> Draft:
        if not rates.places.pays:
            rates.places.forget()
        return Draft(guess, self._numbers, rates)

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
