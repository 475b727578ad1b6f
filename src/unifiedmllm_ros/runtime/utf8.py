"""UTF-8 as an automaton over bytes, so that constrained decoding never cuts a character.

States and transitions follow RFC 3629, section 4 (no overlong forms, no surrogates, nothing above
U+10FFFF). State 0 is between two characters.
"""

from __future__ import annotations

from typing import Final

BETWEEN: Final = 0
STATES: Final = 8
_ONE_MORE, _TWO_MORE, _THREE_MORE, _AFTER_E0, _AFTER_ED, _AFTER_F0, _AFTER_F4 = range(1, STATES)

_TAIL = (0x80, 0xBF)
_RANGES: Final = {
    BETWEEN: (
        ((0x00, 0x7F), BETWEEN),
        ((0xC2, 0xDF), _ONE_MORE),
        ((0xE0, 0xE0), _AFTER_E0),
        ((0xE1, 0xEC), _TWO_MORE),
        ((0xED, 0xED), _AFTER_ED),
        ((0xEE, 0xEF), _TWO_MORE),
        ((0xF0, 0xF0), _AFTER_F0),
        ((0xF1, 0xF3), _THREE_MORE),
        ((0xF4, 0xF4), _AFTER_F4),
    ),
    _ONE_MORE: ((_TAIL, BETWEEN),),
    _TWO_MORE: ((_TAIL, _ONE_MORE),),
    _THREE_MORE: ((_TAIL, _TWO_MORE),),
    _AFTER_E0: (((0xA0, 0xBF), _ONE_MORE),),
    _AFTER_ED: (((0x80, 0x9F), _ONE_MORE),),
    _AFTER_F0: (((0x90, 0xBF), _TWO_MORE),),
    _AFTER_F4: (((0x80, 0x8F), _TWO_MORE),),
}


def advance(state: int, spelled: bytes) -> int | None:
    """Return the state after `spelled`, or None where that is not UTF-8."""
    for byte in spelled:
        for (low, high), following in _RANGES[state]:
            if low <= byte <= high:
                state = following
                break
        else:
            return None
    return state
