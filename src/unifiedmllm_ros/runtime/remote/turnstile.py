"""A limit on how many do something at a time, in the order in which they came."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from unifiedmllm_ros.cancellation import Cancel, check

_TICK = 0.02


class Turnstile:
    """Lets in `places` at a time. Unlike a semaphore it keeps the order, so that none starves."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def place(self, cancel: Cancel) -> Iterator[None]:
        """Hold a place. Raises Cancelled within 20 ms of a cancel while waiting for it."""
        ticket = threading.Event()
        with self._lock:
            if self._free and not self._waiting:
                self._free -= 1
                ticket.set()
            else:
                self._waiting.append(ticket)
        try:
            while not ticket.wait(_TICK):
                check(cancel, 'the question')
            yield
        finally:
            self._leave(ticket)

    def _leave(self, ticket: threading.Event) -> None:
        with self._lock:
            if not ticket.is_set():
                self._waiting.remove(ticket)
            elif self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1
