"""What an operator says, made fit for a model: plain text of bounded length."""

from __future__ import annotations

import unicodedata

from unifiedmllm_ros.errors import InstructionError

MAX_CHARACTERS = 2000
# Characters that only steer how text is laid out, such as direction overrides, and can hide what
# it says. Joiners stay: scripts and emoji need them.
_LAYOUT = frozenset('\u200b\u200e\u200f\u2060\ufeff') | {
    chr(code)
    for first, last in ((0x202A, 0x202E), (0x2066, 0x2069))
    for code in range(first, last + 1)
}


def clean_instruction(text: str) -> str:
    """Return an instruction in Unicode's NFC form, on one line, without control characters.

    Markers in it stay as they are: they are data, and models escape them. Raises InstructionError
    where it is empty, longer than 2000 characters, or no valid Unicode (lone surrogates, or the
    U+FFFD that stands for undecodable bytes).
    """
    if len(text) > MAX_CHARACTERS:
        raise InstructionError(
            f'instruction has {len(text)} characters, at most {MAX_CHARACTERS}: shorten it'
        )
    invalid = next((c for c in text if c == '\ufffd' or unicodedata.category(c) == 'Cs'), None)
    if invalid is not None:
        raise InstructionError(
            f'instruction is no valid Unicode text: U+{ord(invalid):04X} at character '
            f'{text.index(invalid)}; send it as UTF-8'
        )
    kept = ''.join(c for c in text if c.isspace() or not _dropped(c))
    clean = ' '.join(unicodedata.normalize('NFC', kept).split())
    if not clean:
        raise InstructionError('instruction is empty: say what to look for')
    return clean


def _dropped(character: str) -> bool:
    return unicodedata.category(character) == 'Cc' or character in _LAYOUT
