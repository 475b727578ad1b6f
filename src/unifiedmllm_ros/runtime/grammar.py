"""The unified representation as an automaton over token ids.

What it lets through always parses without a problem, and every response that format() writes and
whose phrases are not empty can be spelled under it. The work is done once, when a `Grammar` is
made: in a state, allowed() is a lookup in precomputed masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor
from unifiedmllm_ros.model.tokenizer import BOX_GLUE, ENTITIES, NUMBER_STEPS, byte_level
from unifiedmllm_ros.representation import TASKS, Argument, TaskSpec
from unifiedmllm_ros.runtime import utf8

Mask = npt.NDArray[np.bool_]

_NUMBER: Final = -1  # where a box takes a coordinate instead of a fixed token


class Place(Enum):
    """Where in the grammar a state stands."""

    PROSE = auto()
    ARGUMENT = auto()
    PHRASE = auto()
    AFTER_PHRASE = auto()
    BOX = auto()
    AFTER_BOX = auto()
    END = auto()


class Grammar:
    """What the tokens of one tokenizer mean in the grammar of some tasks."""

    def __init__(
        self, processor: UnifiedMLLMProcessor, tasks: Mapping[str, TaskSpec] = TASKS
    ) -> None:
        """Prepare the masks. Tasks whose markers the tokenizer lacks are not offered."""
        self.vocab_size = processor.vocab_size
        self.eos_id = processor.eos_id
        self.phrase_open, self.phrase_close, self.box_open, box_close = (
            processor.token_id(marker) for marker in ('<p>', '</p>', '<box>', '</box>')
        )
        bracket, comma, closing = (processor.token_id(byte_level(glue)) for glue in BOX_GLUE)
        number = _NUMBER
        self.box = (
            bracket,
            number,
            comma,
            number,
            comma,
            number,
            comma,
            number,
            closing,
            box_close,
        )
        self.box_close = box_close
        self.first_number = int(processor.number_ids[0])
        self.last_number = int(processor.number_ids[-1])
        self.gap = processor.config.instance_gap
        self._name_tasks(processor, tasks)
        self._spell_text(processor)
        self._masks: dict[tuple[object, ...], Mask] = {}

    def start(self) -> GrammarState:
        """Return the state before the first token of an answer."""
        return GrammarState(self)

    def utf8_after(self, state: int, token: int) -> int:
        """Return the UTF-8 state after a text token, -1 where it does not fit."""
        return int(self._text_ends[state, token])

    def mask(self, key: tuple[object, ...], *ids: int, text: Mask | None = None) -> Mask:
        """Return the mask of some ids and some text, made once for a key; not to be written."""
        found = self._masks.get(key)
        if found is None:
            found = np.zeros(self.vocab_size, np.bool_) if text is None else text.copy()
            found[list(ids)] = True
            found.flags.writeable = False
            self._masks[key] = found
        return found

    def _name_tasks(self, processor: UnifiedMLLMProcessor, tasks: Mapping[str, TaskSpec]) -> None:
        self.openers: dict[int, TaskSpec] = {}
        self.closers: dict[str, int] = {}
        for spec in tasks.values():
            opening, closing = (processor.tokenizer.token_to_id(mark) for mark in spec.markers)
            if opening is not None and closing is not None:
                self.openers[opening] = spec
                self.closers[spec.name] = closing

    def _spell_text(self, processor: UnifiedMLLMProcessor) -> None:
        """Tabulate for each UTF-8 state and id the state that follows, -1 where it is no text."""
        self.spelled = processor.token_bytes
        special = set(processor.tokenizer.get_added_tokens_decoder())
        entities = {entity.encode() for entity in ENTITIES}
        self._text_ends = np.full((utf8.STATES, self.vocab_size), -1, np.int8)
        for token, spelled in enumerate(self.spelled):
            marked = not spelled or any(mark in spelled for mark in (b'<', b'>', b'&'))
            if token in special or (marked and spelled not in entities):
                continue
            for state in range(utf8.STATES):
                following = utf8.advance(state, spelled)
                self._text_ends[state, token] = -1 if following is None else following
        self.text_after = self._text_ends >= 0
        self.single_byte = np.asarray([len(spelled) == 1 for spelled in self.spelled])
        self.visible = np.asarray([_is_visible(spelled) for spelled in self.spelled])


@dataclass(frozen=True)
class GrammarState:
    """A point in an answer; immutable, so that it can be kept and returned to.

    pending: UTF-8 state of the text so far.
    text: bytes of the current phrase or argument.
    regions: regions that the open call has.
    position: index into the tokens of a box.
    corners: the coordinates of the open box so far, or of the last one, in thousandths.
    leftmost: where the open box may begin at the left, in thousandths.
    """

    grammar: Grammar
    place: Place = Place.PROSE
    pending: int = utf8.BETWEEN
    text: bytes = b''
    call: TaskSpec | None = None
    regions: int = 0
    position: int = 0
    corners: tuple[int, ...] = ()
    leftmost: int = 0

    @property
    def finished(self) -> bool:
        """Whether the answer has ended."""
        return self.place is Place.END

    @property
    def at_coordinate(self) -> bool:
        """Whether the next token is a coordinate."""
        return self.place is Place.BOX and self.grammar.box[self.position] == _NUMBER

    @property
    def forced(self) -> int | None:
        """The next token where there is no choice, else None."""
        if self.place is Place.AFTER_PHRASE:
            return self.grammar.box_open
        if self.place is Place.BOX and not self.at_coordinate:
            return self.grammar.box[self.position]
        return None

    @property
    def coordinates(self) -> range:
        """The ids that may follow where the next token is a coordinate."""
        grammar, given = self.grammar, len(self.corners)
        first, last = grammar.first_number, grammar.last_number
        if given < 2:  # left of a right edge, above a lower one
            return range(first + (self.leftmost if given == 0 else 0), last)
        return range(first + self.corners[given - 2] + 1, last + 1)

    def permits(self, token: int, closing: bool = False) -> bool:
        """Return whether a token may follow; see allowed()."""
        if self.place is Place.BOX:  # half of all tokens, and no mask is needed
            forced = self.forced
            return token in self.coordinates if forced is None else token == forced
        return 0 <= token < self.grammar.vocab_size and bool(self.allowed(closing)[token])

    def allowed(self, closing: bool = False) -> Mask:
        """Which ids may follow: a boolean array over the vocabulary, not to be written to.

        closing: only those that bring the answer to its end soonest.
        """
        return self._allowed(closing=True) if closing else self._open

    @cached_property
    def _open(self) -> Mask:
        return self._allowed(closing=False)

    def _allowed(self, closing: bool) -> Mask:
        if self.forced is not None:
            return self.grammar.mask(('only', self.forced), self.forced)
        if self.place is Place.BOX:
            return self._coordinates()
        if self.place is Place.END:
            return self.grammar.mask(('none',))
        if self.pending != utf8.BETWEEN:
            return self._continuation(closing)
        return self._closing() if closing else self._choice()

    def advance(self, token: int) -> GrammarState:
        """Return the state after a token. Raises ValueError where it is not allowed."""
        following = self._following.get(token)
        if following is None:
            if not self.permits(token):
                raise ValueError(f'token {token} is not allowed in {self.place.name.lower()}')
            following = self._following[token] = self._after(token)
        return following

    @cached_property
    def _following(self) -> dict[int, GrammarState]:
        # A draft goes ahead where the answer follows.
        return {}

    def _after(self, token: int) -> GrammarState:
        grammar = self.grammar
        if self.place is Place.BOX:
            return self._advance_box(token)
        if token == grammar.eos_id:
            return replace(self, place=Place.END)
        if token == grammar.phrase_open:
            return replace(self, place=Place.PHRASE, text=b'', regions=self.regions + 1)
        if token == grammar.phrase_close:
            return replace(self, place=Place.AFTER_PHRASE, text=b'')
        if token == grammar.box_open:
            leftmost = self._next_leftmost()
            return replace(self, place=Place.BOX, position=0, corners=(), leftmost=leftmost)
        if token in grammar.openers:
            call = grammar.openers[token]
            return GrammarState(grammar, Place.ARGUMENT, call=call)
        if self.call and token == grammar.closers[self.call.name]:
            return GrammarState(grammar)
        return self._advance_text(token)

    def _advance_text(self, token: int) -> GrammarState:
        grammar = self.grammar
        pending = grammar.utf8_after(self.pending, token)
        if self.place in (Place.ARGUMENT, Place.PHRASE):
            text = self.text + grammar.spelled[token]
            return GrammarState(grammar, self.place, pending, text, self.call, self.regions)
        return GrammarState(grammar, pending=pending)

    def _advance_box(self, token: int) -> GrammarState:
        grammar, corners = self.grammar, self.corners
        if self.at_coordinate:
            corners = (*corners, token - grammar.first_number)
        inside = self.position + 1 < len(grammar.box)
        place = Place.BOX if inside else Place.AFTER_BOX
        position = self.position + 1 if inside else 0
        # Half of all tokens come by here: `replace` takes three times as long.
        return GrammarState(
            grammar,
            place,
            self.pending,
            self.text,
            self.call,
            self.regions,
            position,
            corners,
            self.leftmost,
        )

    def _next_leftmost(self) -> int:
        gap = self.grammar.gap
        if gap is None or self.place is not Place.AFTER_BOX:
            return 0
        left, _, right, _ = self.corners
        # At the right edge there may be no room for a gap: one place stays open.
        return min(left + max(1, round(gap * (right - left))), NUMBER_STEPS - 1)

    def _coordinates(self) -> Mask:
        mask = np.zeros(self.grammar.vocab_size, np.bool_)
        mask[self.coordinates.start : self.coordinates.stop] = True
        return mask

    def _continuation(self, closing: bool) -> Mask:
        grammar, key = self.grammar, ('rest', self.pending, closing)
        text = grammar.text_after[self.pending]
        if closing:  # byte by byte, so that no further character is begun
            text = text & grammar.single_byte
        return grammar.mask(key, text=text)

    def _choice(self) -> Mask:
        grammar = self.grammar
        if self.place is Place.PROSE:
            return grammar.mask((self.place,), *self._top(), text=grammar.text_after[utf8.BETWEEN])
        if self.place is Place.AFTER_BOX and self.call is None:
            ids = (*self._top(), grammar.box_open)
            return grammar.mask((self.place,), *ids, text=grammar.text_after[utf8.BETWEEN])
        if self.place is Place.PHRASE:
            ids = (grammar.phrase_close,) if self.text else ()
            text = grammar.text_after[utf8.BETWEEN]
            return grammar.mask((self.place, *ids), *ids, text=text)
        return self._inside_call()

    def _inside_call(self) -> Mask:
        assert self.call is not None
        grammar, most = self.grammar, self.call.regions[1]
        ids: list[int] = []
        if self._may_close:
            ids.append(grammar.closers[self.call.name])
        if (most is None or self.regions < most) and self._argument_given:
            ids.append(grammar.phrase_open)
        if self.place is Place.AFTER_BOX:
            ids.append(grammar.box_open)
            return grammar.mask((self.place, *ids), *ids)
        return grammar.mask((self.place, *ids), *ids, text=grammar.text_after[utf8.BETWEEN])

    def _closing(self) -> Mask:
        grammar = self.grammar
        if self.call is None and self.place in (Place.PROSE, Place.AFTER_BOX):
            return grammar.mask(('only', grammar.eos_id), grammar.eos_id)
        if self.place is Place.PHRASE:
            token = grammar.phrase_close if self.text else None
        elif not self._argument_given:
            text = grammar.text_after[utf8.BETWEEN] & grammar.visible
            return grammar.mask(('visible',), text=text)
        elif self._may_close:
            assert self.call is not None
            token = grammar.closers[self.call.name]
        else:
            token = grammar.phrase_open
        return self._choice() if token is None else grammar.mask(('only', token), token)

    def _top(self) -> tuple[int, ...]:
        grammar = self.grammar
        return grammar.eos_id, grammar.phrase_open, *grammar.openers

    @cached_property
    def _argument_given(self) -> bool:
        """Whether the call has the argument it needs (once it has regions, it was checked)."""
        assert self.call is not None
        if self.place is not Place.ARGUMENT or self.call.argument is Argument.OPTIONAL:
            return True
        return bool(self.text.decode('utf-8', 'replace').strip())

    @property
    def _may_close(self) -> bool:
        assert self.call is not None
        return self._argument_given and self.regions >= self.call.regions[0]


def _is_visible(spelled: bytes) -> bool:
    return spelled.isascii() and bool(spelled.strip()) and spelled.strip().isalnum()
