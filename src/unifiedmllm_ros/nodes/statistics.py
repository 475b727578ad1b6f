"""What a perception node counts and times, for its diagnostics.

Thread-safe: frames are counted by the executor's thread, answers by the worker's.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

_WINDOW = 100
_RATE_SECONDS = 5.0


@dataclass(frozen=True)
class Snapshot:
    """State of the counters at one moment; rates in Hz over 5 s, times in milliseconds (median)."""

    frames: int
    dropped: int
    answered: int
    failed: int
    clock_resets: int
    frame_rate: float
    answer_rate: float
    frame_age_ms: float | None
    stages_ms: dict[str, float] = field(default_factory=dict)
    last_error: str = ''
    last_error_age: float | None = None


class Statistics:
    """Counters and windows of the last 100 frames and answers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(('frames', 'dropped', 'answered', 'failed', 'clock_resets'), 0)
        self._arrivals: deque[float] = deque(maxlen=2048)
        self._answers: deque[float] = deque(maxlen=2048)
        self._ages: deque[float] = deque(maxlen=_WINDOW)
        self._stages: dict[str, deque[float]] = {}
        self._last_error = ''
        self._last_error_time: float | None = None

    def frame(self) -> None:
        """Count a frame that arrived."""
        with self._lock:
            self._counts['frames'] += 1
            self._arrivals.append(time.monotonic())

    def drop(self) -> None:
        """Count a frame that was displaced by a newer one, or held back by the rate limit."""
        with self._lock:
            self._counts['dropped'] += 1

    def clock_reset(self) -> None:
        """Count a stamp that lay before the one before it."""
        with self._lock:
            self._counts['clock_resets'] += 1

    def answer(self, stages_ms: Mapping[str, float], age_ms: float | None) -> None:
        """Count an answer, its stages, and the age its frame had when it was published."""
        with self._lock:
            self._counts['answered'] += 1
            self._answers.append(time.monotonic())
            if age_ms is not None:
                self._ages.append(age_ms)
            for stage, ms in stages_ms.items():
                self._stages.setdefault(stage, deque(maxlen=_WINDOW)).append(ms)

    def error(self, text: str) -> None:
        """Count a failure and remember what it was."""
        with self._lock:
            self._counts['failed'] += 1
            self._last_error = text
            self._last_error_time = time.monotonic()

    def snapshot(self) -> Snapshot:
        """Return the present state."""
        with self._lock:
            now = time.monotonic()
            since = self._last_error_time
            return Snapshot(
                **self._counts,
                frame_rate=_rate(self._arrivals, now),
                answer_rate=_rate(self._answers, now),
                frame_age_ms=median(self._ages) if self._ages else None,
                stages_ms={stage: median(times) for stage, times in self._stages.items()},
                last_error=self._last_error,
                last_error_age=None if since is None else now - since,
            )


def _rate(times: deque[float], now: float) -> float:
    recent = [moment for moment in times if now - moment <= _RATE_SECONDS]
    return len(recent) / _RATE_SECONDS
