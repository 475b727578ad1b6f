"""How a caller stops work: a question that the work asks itself between its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from unifiedmllm_ros.errors import Cancelled

Cancel = Callable[[], bool]
"""Returns True once the work should stop; called between steps, from the working thread."""


class EventLike(Protocol):
    """What `threading.Event` has of interest here."""

    def is_set(self) -> bool:
        """Return True once the event has happened."""
        ...


def never() -> bool:
    """The `Cancel` of work that nobody stops."""
    return False


def as_cancel(source: Cancel | EventLike | None) -> Cancel:
    """Return the `Cancel` for an event (such as `threading.Event`), a callable or None (never)."""
    if source is None:
        return never
    return source if callable(source) else source.is_set


def check(cancel: Cancel, what: str) -> None:
    """Raise Cancelled, naming `what`, if the caller has asked to stop."""
    if cancel():
        raise Cancelled(f'{what} was cancelled by its caller')
