"""One request to the experts, from its arrival to its end; knows nothing of ROS."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

import numpy as np

from unifiedmllm_ros.errors import Cancelled, UnifiedMLLMError
from unifiedmllm_ros.experts.base import Progress, Result
from unifiedmllm_ros.representation import TaskCall

QUEUE_STAGE, LOAD_STAGE, SAVE_STAGE = 'queue', 'load', 'save'
"""Phases of a `Progress` that are not an expert's own work."""

_numbers = itertools.count(1)


class Phase(IntEnum):
    """Where a job is; the numbers are those of ExecuteTask's feedback."""

    QUEUED = 0
    LOADING = 1
    RUNNING = 2
    SAVING = 3


@dataclass(frozen=True, eq=False)
class Order:
    """What is wanted: messages as they came, nothing of them is read yet.

    call: a TaskCall message. images: sensor_msgs/Image messages. video_path: '' for none.
    seed: -1 for one that is drawn. parameters: KeyValue messages. values: parameters that are
    known to be right.
    """

    call: Any
    images: tuple[Any, ...] = ()
    video_path: str = ''
    seed: int = -1
    parameters: tuple[Any, ...] = ()
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a job: the result, its messages, and the files that were written."""

    call: TaskCall
    result: Result
    messages: Any
    paths: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Standing:
    """How a job stands; progress in [0, 1], position the number of jobs before it."""

    phase: Phase = Phase.QUEUED
    detail: str = ''
    progress: float = 0.0
    position: int = 0
    preview: np.ndarray | None = None


class Job:
    """A request, how it stands, and who hears of it.

    Args:
        order: what is wanted.
        hear: is told how the job stands whenever that changes, by any thread.
        end: is told, once, the Outcome or the error.
        client_cancelled: whether the client has asked to stop.
    """

    def __init__(
        self,
        order: Order,
        hear: Callable[[Standing], None],
        end: Callable[[Outcome | BaseException], None],
        client_cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self.number = next(_numbers)
        self.order = order
        self.expert = ''
        self.facts: dict[str, Any] = {}
        self.ended: BaseException | Outcome | None = None
        self._hear = hear
        self._end = end
        self._client_cancelled = client_cancelled
        self._reason: UnifiedMLLMError | None = None
        self._standing = Standing()
        self._phase_seconds: dict[str, float] = {}
        self._since = self._arrived = time.monotonic()
        self._ended_at: float | None = None
        self._lock = threading.Lock()

    @property
    def standing(self) -> Standing:
        """How it stands."""
        return self._standing

    @property
    def task(self) -> str:
        """Its task."""
        return str(self.order.call.task)

    @property
    def seconds(self) -> float:
        """Since it arrived, until it ended."""
        return (self._ended_at or time.monotonic()) - self._arrived

    def seconds_by_phase(self) -> dict[str, float]:
        """How long it has been in each phase, the present one included."""
        seconds = dict(self._phase_seconds)
        if self._ended_at is None:
            name = self._standing.phase.name.lower()
            seconds[name] = seconds.get(name, 0.0) + time.monotonic() - self._since
        return seconds

    def stop(self, reason: UnifiedMLLMError) -> None:
        """Ask it to stop, for a reason that its client is told."""
        if self._reason is None:
            self._reason = reason

    def cancel(self) -> bool:
        """Whether it should stop: the `Cancel` of the expert."""
        return self._reason is not None or self._client_cancelled()

    def move(self, position: int) -> None:
        """Take note of the number of jobs before it."""
        if position != self._standing.position:
            self._change(position=position)

    def enter(self, phase: Phase, detail: str = '') -> None:
        """Go on to a phase."""
        self._change(phase=phase, detail=detail)

    def progress(self, progress: Progress) -> None:
        """Take note of an expert's progress: the `OnProgress` of the expert.

        Neither phase nor progress ever fall, whatever is told.
        """
        phase = _PHASES.get(progress.phase, Phase.RUNNING)
        before = self._standing
        told = progress.fraction if math.isfinite(progress.fraction) else 0.0
        share = min(max(told, 0.0), 1.0) if phase is Phase.RUNNING else 0.0
        self._change(
            phase=max(phase, before.phase),
            detail=progress.phase,
            progress=max(share, before.progress),
            preview=progress.preview,
        )

    def finish(self, outcome: Outcome | BaseException) -> None:
        """End it; what comes after the first end is not told to anyone."""
        if isinstance(outcome, Cancelled) and self._reason is not None:
            outcome = self._reason
        with self._lock:
            if self.ended is not None:
                return
            self.ended = outcome
        self._account(self._standing.phase)
        self._ended_at = time.monotonic()
        self._end(outcome)

    def _change(self, **values: Any) -> None:
        before = self._standing
        self._standing = replace(before, **{'preview': None, **values})
        if self._standing.phase is not before.phase:
            self._account(before.phase)
        self._hear(self._standing)

    def _account(self, phase: Phase) -> None:
        now = time.monotonic()
        name = phase.name.lower()
        self._phase_seconds[name] = self._phase_seconds.get(name, 0.0) + now - self._since
        self._since = now


_PHASES = {
    QUEUE_STAGE: Phase.QUEUED,
    LOAD_STAGE: Phase.LOADING,
    SAVE_STAGE: Phase.SAVING,
}
