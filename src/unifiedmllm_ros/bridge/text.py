"""Text as a ROS string can carry it."""

from __future__ import annotations


def encodable(text: str, limit: int = 4000) -> str:
    """Return `text` as UTF-8 without NUL, at most `limit` characters, with … where it was cut."""
    clean = text.encode('utf-8', 'replace').decode('utf-8').replace('\0', '')
    return clean if len(clean) <= limit else clean[: limit - 1] + '…'
