"""What an edit of a region asks for, told from its instruction in plain English.

Inpainting networks are prompted by what should be seen afterwards, so "replace the can with a red
apple" must become "a red apple". What is not recognised is taken as such a prompt itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Operation = Literal['remove', 'replace', 'recolour', 'add', 'change']

_REMOVE = re.compile(
    r'(?:remove|delete|erase|get rid of|take\b.*\b(?:away|out|off)'
    r'|make\b.*\b(?:disappear|vanish|go away))\b',
    re.I | re.S,
)
_REPLACE = re.compile(
    r'(?:replace|swap|exchange|substitute)\b.*?\b(?:with|by|for)\s+(?P<new>\S.*)', re.I | re.S
)
_BECOME = re.compile(r'(?:turn|change|make|transform)\b.*?\binto\s+(?P<new>\S.*)', re.I | re.S)
_COLOURS = (
    'red|blue|green|yellow|orange|purple|violet|pink|black|white|grey|gray|brown|silver|gold|golden'
    '|beige|turquoise|cyan|magenta'
)
_RECOLOUR = re.compile(
    rf'(?:paint|colou?r|recolou?r|dye|make|turn|change)\b.*?\b'
    rf'(?P<colour>(?:(?:dark|light|bright|pale)\s+)?(?:{_COLOURS}))\W*$',
    re.I | re.S,
)
_ADD = re.compile(r'(?:add|put|place|insert|draw)\s+(?P<new>\S.*)', re.I | re.S)
_LEAD = re.compile(r'\s*(?:(?:please|now|can you|could you)\b[\s,]*)+', re.I)


@dataclass(frozen=True)
class Instruction:
    """operation: what is done; wanted: what should be seen afterwards, '' where nothing."""

    operation: Operation
    wanted: str


def understood(instruction: str, phrase: str) -> Instruction:
    """Return what an instruction asks for in the region called `phrase`."""
    text = _LEAD.sub('', instruction, count=1).strip().rstrip('.!?').rstrip()
    if _REMOVE.match(text):
        return Instruction('remove', '')
    for pattern in (_REPLACE, _BECOME):
        if found := pattern.match(text):
            return Instruction('replace', found['new'])
    if found := _RECOLOUR.match(text):
        return Instruction('recolour', f'{found["colour"]} {phrase}'.strip())
    if found := _ADD.match(text):
        return Instruction('add', phrase.strip() or found['new'])
    return Instruction('change', text)
