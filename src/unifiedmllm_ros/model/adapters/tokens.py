"""Transcripts that are prose with location tokens in it: tags out, regions where they stand."""

from __future__ import annotations

import re

_CHAT = re.compile(r'</?s>|<pad>|<eos>|<bos>|</?image>|<\|[a-z_]{1,20}\|>')


def without_control(text: str) -> str:
    """Return text with control tokens of chat and generation blanked, positions kept."""
    return _CHAT.sub(lambda match: ' ' * len(match[0]), text)


def readable(text: str) -> str:
    """Return prose as valid Unicode with single blanks; a blank at either end stays."""
    valid = text.encode('utf-8', 'replace').decode('utf-8')
    return re.sub(r'\s+', ' ', valid)
