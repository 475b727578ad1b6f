"""The unified representation as an automaton over bytes, for tokenizers without our markers.

Accepts what `runtime.grammar` does: answers that parse without a problem, with phrases that are
not empty, arguments where they are needed, and boxes with x1 < x2 and y1 < y2. States are
immutable and few, so that what may follow one can be kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from unifiedmllm_ros.representation import TASKS, Argument, TaskSpec
from unifiedmllm_ros.runtime import utf8

PROSE: Final = 'prose'
ARGUMENT: Final = 'argument'
PHRASE: Final = 'phrase'
AFTER_PHRASE: Final = 'after phrase'
AFTER_BOX: Final = 'after box'
NUMBER: Final = 'number'
_TEXT: Final = (PROSE, ARGUMENT, PHRASE)
_ENTITIES: Final = (b'&lt;', b'&gt;', b'&amp;')
_NUMBERS: Final = tuple(b'%d.%03d' % divmod(value, 1000) for value in range(1001))
_PLACES: Final = 4
# First bytes of characters that Unicode counts as blanks; letters that share them count as none.
_BLANK_LEADS: Final = frozenset({0xC2, 0xE1, 0xE2, 0xE3})


@dataclass(frozen=True)
class ByteState:
    """A point in an answer.

    begun: the marker, entity, number or glue that is being written. pending: UTF-8 state.
    seen: whether the current phrase or argument has something visible. call: the open task.
    regions: how many the call has, as far as it matters. corners: of the open box, in thousandths.
    """

    place: str = PROSE
    begun: bytes = b''
    pending: int = utf8.BETWEEN
    seen: bool = False
    call: str = ''
    regions: int = 0
    corners: tuple[int, ...] = ()

    @property
    def final(self) -> bool:
        """Whether the answer may end here."""
        outside = self.place in (PROSE, AFTER_BOX) and not self.call
        return outside and not self.begun and self.pending == utf8.BETWEEN

    @property
    def is_text(self) -> bool:
        """Whether free text may follow."""
        if self.begun:
            return False
        return self.place in _TEXT or (self.place == AFTER_BOX and not self.call)


class ByteAutomaton:
    """The grammar of some tasks."""

    def __init__(self, tasks: Mapping[str, TaskSpec] = TASKS) -> None:
        """Prepare; states are made as they are met."""
        self._tasks = dict(tasks)
        self.advance = lru_cache(maxsize=200_000)(self._advance)
        self.closing = lru_cache(maxsize=20_000)(self._closing)

    def run(self, state: ByteState, spelled: bytes) -> ByteState | None:
        """Return the state after some bytes, None where they do not fit."""
        found: ByteState | None = state
        for byte in spelled:
            found = self.advance(found, byte)
            if found is None:
                return None
        return found

    def _advance(self, state: ByteState, byte: int) -> ByteState | None:
        if state.pending != utf8.BETWEEN:
            return self._character(state, byte)
        if state.place == NUMBER:
            return _number(state, byte)
        if state.begun or byte in b'<&' or not state.is_text:
            return self._marker(state, byte)
        return None if byte == 0x3E else self._character(state, byte)

    def _character(self, state: ByteState, byte: int) -> ByteState | None:
        pending = utf8.advance(state.pending, bytes([byte]))
        if pending is None or (byte < 0x20 and byte not in b'\t\n') or byte == 0x7F:
            return None
        if state.place == PROSE or state.place == AFTER_BOX:
            return ByteState(pending=pending)
        return replace(state, pending=pending, seen=state.seen or _is_visible(byte))

    def _marker(self, state: ByteState, byte: int) -> ByteState | None:
        begun = state.begun + bytes([byte])
        for text, following in self._markers(state):
            if text == begun:
                return following
            if text.startswith(begun):
                return replace(state, begun=begun)
        return None

    def _markers(self, state: ByteState) -> list[tuple[bytes, ByteState]]:
        """Return what may be written as a whole here, and the state that follows."""
        if state.place == AFTER_PHRASE:
            return [(b'<box>[', replace(state, place=NUMBER, begun=b'', corners=()))]
        plain = replace(state, begun=b'')
        found: list[tuple[bytes, ByteState]] = []
        # Prose may follow a box outside a call; inside one, only regions and its end.
        if state.place in (PROSE, AFTER_BOX) and not state.call:
            found += [(entity, ByteState()) for entity in _ENTITIES]
        elif state.place in _TEXT:
            found += [(entity, replace(plain, seen=True)) for entity in _ENTITIES]
        if state.place == PHRASE:
            if state.seen:
                found.append((b'</p>', replace(plain, place=AFTER_PHRASE, seen=False)))
            return found
        if state.place == AFTER_BOX:
            found.append((b'<box>[', replace(plain, place=NUMBER, corners=())))
        return found + (self._in_call(plain) if state.call else self._outside(plain))

    def _outside(self, plain: ByteState) -> list[tuple[bytes, ByteState]]:
        found = [(b'<p>', ByteState(PHRASE))]
        for spec in self._tasks.values():
            opening = spec.markers[0].encode()
            found.append((opening, ByteState(ARGUMENT, call=spec.name)))
        return found

    def _in_call(self, plain: ByteState) -> list[tuple[bytes, ByteState]]:
        spec = self._tasks[plain.call]
        fewest, most = spec.regions
        given = plain.place != ARGUMENT or spec.argument is Argument.OPTIONAL or plain.seen
        found: list[tuple[bytes, ByteState]] = []
        if given and plain.regions >= fewest:
            found.append((spec.markers[1].encode(), ByteState()))
        if given and (most is None or plain.regions < most):
            count = plain.regions + 1 if most is not None else min(plain.regions + 1, fewest)
            found.append((b'<p>', ByteState(PHRASE, call=plain.call, regions=count)))
        return found

    def _closing(self, state: ByteState) -> frozenset[int]:
        """Return the bytes with which the answer comes to its end soonest; none where it may end.

        Of a state on the way of a marker, the shortest one that it can become.
        """
        if state.final:
            return frozenset()
        if state.pending != utf8.BETWEEN:
            return frozenset(b for b in range(0x80, 0xC0) if self.advance(state, b) is not None)
        if state.place == NUMBER:
            return frozenset(b for b in b'0123456789., ]</box>' if self.advance(state, b))
        markers = [text for text, _ in self._markers(state) if text.startswith(state.begun)]
        wanted = [text for text in markers if text.startswith(b'</')]
        wanted = wanted or [text for text in markers if text == b'<p>']
        if not wanted and not state.begun and state.place in (PHRASE, ARGUMENT):
            return frozenset(b'abcdefghijklmnopqrstuvwxyz')
        shortest = min(wanted or markers, key=len)
        return frozenset({shortest[len(state.begun)]})


def _number(state: ByteState, byte: int) -> ByteState | None:
    """Numbers with the glue between them: `0.100, 0.200, 0.300, 0.400]</box>`."""
    begun, given = state.begun + bytes([byte]), len(state.corners)
    if _fits(begun, state.corners):
        return replace(state, begun=begun)
    last = given == _PLACES - 1
    glue = b']</box>' if last else b', '
    number, rest = begun[:5], begun[5:]
    if len(number) < 5 or not rest or not glue.startswith(rest):
        return None
    if rest != glue:
        return replace(state, begun=begun)
    corners = (*state.corners, _value(number))
    if last:
        return replace(state, place=AFTER_BOX, begun=b'', corners=())
    return replace(state, begun=b'', corners=corners)


def _fits(begun: bytes, corners: tuple[int, ...]) -> bool:
    """Whether a number may begin like this: second corners lie beyond the first."""
    low, high = (0, 999) if len(corners) < 2 else (corners[len(corners) - 2] + 1, 1000)
    return any(text.startswith(begun) for text in _NUMBERS[low : high + 1])


def _value(number: bytes) -> int:
    return int(number[:1]) * 1000 + int(number[2:])


def _is_visible(byte: int) -> bool:
    return 0x21 <= byte < 0x7F or (byte >= 0xC3 and byte not in _BLANK_LEADS)
