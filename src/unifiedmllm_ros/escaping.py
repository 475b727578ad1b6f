"""Escaping of plain text, so that no text from outside can hold a marker."""

from __future__ import annotations

import re

_ENTITIES = {'&amp;': '&', '&lt;': '<', '&gt;': '>'}
_ENTITY = re.compile('|'.join(_ENTITIES))


def escape(text: str) -> str:
    """Return `text` with `&`, `<` and `>` written as entities: it holds no marker any more."""
    return text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')


def unescape(text: str) -> str:
    """Return the text that `escape` was given; other entities and bare `&` stay as they are."""
    return _ENTITY.sub(lambda match: _ENTITIES[match[0]], text)
