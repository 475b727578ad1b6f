"""Errors of a running node: logged once and not at every frame, counted always."""

from __future__ import annotations

import time
import traceback
from typing import Any, Protocol

from unifiedmllm_ros.bridge.error_codes import error_message
from unifiedmllm_ros.errors import UnifiedMLLMError

_REPEAT_SECONDS = 5.0


class ErrorMemory(Protocol):
    """What keeps count of a node's errors."""

    def error(self, text: str) -> None:
        """Count an error and remember what it was."""
        ...


class Reporter:
    """Writes errors to a node's log and into its statistics; any thread may report."""

    def __init__(self, logger: Any, statistics: ErrorMemory) -> None:
        self._logger = logger
        self._statistics = statistics
        self._last = ''
        self._last_time = 0.0

    def __call__(self, error: BaseException) -> None:
        """Take note of an error; one that repeats is logged every five seconds."""
        text = error_message(error)
        self._statistics.error(text)
        now = time.monotonic()
        if text != self._last or now - self._last_time >= _REPEAT_SECONDS:
            self._last, self._last_time = text, now
            self._logger.error(text if isinstance(error, UnifiedMLLMError) else _traced(error))


def _traced(error: BaseException) -> str:
    return ''.join(traceback.format_exception(error))
