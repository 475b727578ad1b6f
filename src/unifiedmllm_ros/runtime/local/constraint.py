"""Which tokens of somebody else's tokenizer keep an answer in the unified representation."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from unifiedmllm_ros.runtime import utf8
from unifiedmllm_ros.runtime.local.automaton import NUMBER, ByteAutomaton, ByteState

Mask = npt.NDArray[np.bool_]
_KEPT = 256
_CONTROL = re.compile(rb'[\x00-\x08\x0b-\x1f\x7f]')


class Constraint:
    """Masks over a vocabulary, made when a state is first met and kept."""

    def __init__(
        self, spelled: Sequence[bytes], ends: Sequence[int], automaton: ByteAutomaton | None = None
    ) -> None:
        """Sort the tokens.

        spelled: bytes of each id, b'' for those that are never to be chosen. ends: ids that end an
        answer.
        """
        self.automaton = automaton or ByteAutomaton()
        self.spelled = list(spelled)
        self.ends = [end for end in ends if 0 <= end < len(self.spelled)]
        self._by_first: dict[int, list[int]] = {}
        self._marked: list[int] = []
        self._plain: Mask = np.zeros(len(self.spelled), np.bool_)
        for token, text in enumerate(self.spelled):
            if text:
                self._sort(token, text)
        self._masks: OrderedDict[tuple[ByteState, bool], Mask] = OrderedDict()

    def allowed(self, state: ByteState, closing: bool = False) -> Mask:
        """Return which ids may follow; not to be written to.

        closing: only those that bring the answer to its end soonest.
        """
        key = (state, closing)
        if key in self._masks:
            self._masks.move_to_end(key)
            return self._masks[key]
        mask = self._closing(state) if closing else self._open(state)
        if not mask.any():
            # A tokenizer that cannot spell what has to come: end here rather than in nonsense.
            mask[self.ends] = True
        mask.flags.writeable = False
        if state.place != NUMBER:
            self._masks[key] = mask
            if len(self._masks) > _KEPT:
                self._masks.popitem(last=False)
        return mask

    def advance(self, state: ByteState, token: int) -> ByteState:
        """Return the state after a token that was allowed. Raises ValueError for others."""
        found = self.automaton.run(state, self.spelled[token])
        if found is None or not self.spelled[token]:
            raise ValueError(f'token {token} is not allowed in {state.place}')
        return found

    def _sort(self, token: int, text: bytes) -> None:
        self._by_first.setdefault(text[0], []).append(token)
        if any(mark in text for mark in b'<>&'):
            self._marked.append(token)
        else:
            self._plain[token] = (
                _is_plain(text) or self.automaton.run(ByteState(), text) is not None
            )

    def _open(self, state: ByteState) -> Mask:
        mask = np.zeros(len(self.spelled), np.bool_)
        if state.is_text and state.pending == utf8.BETWEEN:
            mask |= self._plain
            candidates = self._marked
        else:
            candidates = self._beginning(state)
        for token in candidates:
            mask[token] = self.automaton.run(state, self.spelled[token]) is not None
        if state.final:
            mask[self.ends] = True
        return mask

    def _closing(self, state: ByteState) -> Mask:
        mask = np.zeros(len(self.spelled), np.bool_)
        if state.final:
            mask[self.ends] = True
            return mask
        for byte in self.automaton.closing(state):
            for token in self._by_first.get(byte, ()):
                mask[token] = self._closes(state, self.spelled[token])
        return mask

    def _closes(self, state: ByteState, spelled: bytes) -> bool:
        for byte in spelled:
            if byte not in self.automaton.closing(state):
                return False
            following = self.automaton.advance(state, byte)
            if following is None:
                return False
            state = following
        return True

    def _beginning(self, state: ByteState) -> list[int]:
        return [
            token
            for byte, tokens in self._by_first.items()
            if self.automaton.advance(state, byte) is not None
            for token in tokens
        ]


def _is_plain(text: bytes) -> bool:
    """Whether text without marks is whole characters: true of most tokens, and quick to tell."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return _CONTROL.search(text) is None
