"""JSON as language models write it: inside prose and fences, with text after it, or cut off.

One pass, no recursion, linear time, and never an error: a value that ends early is closed where
it ends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 16
_START = re.compile(r'\{\s*(?=["\'}]|$)|\[\s*(?=[\[{"\'\]\-0-9]|$)')
_TOKEN = re.compile(
    r'\s*(?:(?P<mark>[{}\[\],:])'
    r'|(?P<string>"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\')'
    r'|(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)'
    r'|(?P<word>true|false|null|None|True|False))'
)
_WORDS = {'true': True, 'True': True, 'false': False, 'False': False}


@dataclass(frozen=True)
class Found:
    """A value at text[start:end]; complete is False where its end is missing."""

    start: int
    end: int
    value: Any
    complete: bool


def scan(text: str) -> Iterator[Found]:
    """Yield the outermost objects and lists of a text; numbers are floats."""
    position = 0
    while match := _START.search(text, position):
        found = _read(text, match.start())
        yield found
        position = max(found.end, match.start() + 1)


class _Open:
    """An object or a list that is being read."""

    def __init__(self, mark: str) -> None:
        self.closing = '}' if mark == '{' else ']'
        self.value: Any = {} if mark == '{' else []
        self.key: str | None = None

    def put(self, value: Any) -> bool:
        """Take a value; False where an object expected a key."""
        if isinstance(self.value, list):
            self.value.append(value)
        elif self.key is not None:
            self.value[self.key], self.key = value, None
        elif isinstance(value, str):
            self.key = value
        else:
            return False
        return True


def _read(text: str, start: int) -> Found:
    stack: list[_Open] = []
    position = start
    while match := _TOKEN.match(text, position):
        mark = match['mark']
        if mark and mark in '{[':
            if len(stack) == MAX_DEPTH:
                break
            stack.append(_Open(mark))
        elif mark and mark in '}]':
            if stack[-1].closing != mark:
                break
            value = stack.pop().value
            if not stack:
                return Found(start, match.end(), value, True)
            if not stack[-1].put(value):
                stack.append(_Open('['))
                break
        elif not mark and not stack[-1].put(_scalar(match)):
            break
        position = match.end()
    return Found(start, _skip(text, position), _closed(stack), False)


def _scalar(match: re.Match[str]) -> Any:
    if match['number']:
        return float(match['number'])
    if match['word']:
        return _WORDS.get(match['word'])
    inside = match['string'][1:-1]
    try:
        # Single quotes are no JSON: the text between them is read as if they were double ones.
        return json.loads('"' + re.sub(r'(?<!\\)"', r'\"', inside) + '"', strict=False)
    except ValueError:
        return inside


def _closed(stack: list[_Open]) -> Any:
    value: Any = None
    for level in reversed(stack):
        if value is not None:
            level.put(value)
        value = level.value
    return value


def _skip(text: str, position: int) -> int:
    """Leave out the line of a string without end, so that it is not read again and again."""
    rest = position
    while rest < len(text) and text[rest].isspace():
        rest += 1
    if rest < len(text) and text[rest] in '"\'':
        end = text.find('\n', rest)
        return len(text) if end < 0 else end
    return position
