"""One thread that does all inference: questions first, then the newest frame.

Knows nothing of ROS. What runs here may take long; offering and submitting never block.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

FrameT = TypeVar('FrameT')
ResultT = TypeVar('ResultT')


class Worker(Generic[FrameT]):
    """Runs submitted jobs in order, and `on_frame` for the newest offered frame between them.

    `on_frame` must not raise: what it raises all the same goes to `on_defect`, and the thread goes
    on.
    """

    def __init__(
        self,
        on_frame: Callable[[FrameT], None],
        on_defect: Callable[[BaseException], None],
        name: str = 'inference',
    ) -> None:
        self._on_frame = on_frame
        self._on_defect = on_defect
        self._changed = threading.Condition()
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._frame: FrameT | None = None
        self._stopping = False
        self._busy = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def offer(self, frame: FrameT) -> bool:
        """Make `frame` the next one; return whether it displaced one that was still waiting."""
        with self._changed:
            displaced = self._frame is not None
            self._frame = frame
            self._changed.notify_all()
        return displaced

    def submit(self, job: Callable[[], ResultT]) -> Future[ResultT]:
        """Queue a job; its future has the result. Jobs after `stop()` are cancelled futures."""
        future: Future[ResultT] = Future()
        with self._changed:
            if self._stopping:
                future.cancel()
            else:
                self._jobs.append((future, job))
                self._changed.notify_all()
        return future

    def forget_frame(self) -> None:
        """Drop the waiting frame, if any."""
        with self._changed:
            self._frame = None

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Wait until nothing runs or waits; return False when `timeout` seconds were not enough."""
        with self._changed:
            return self._changed.wait_for(self._idle, timeout)

    @property
    def pending(self) -> int:
        """Number of jobs that wait; the one that runs is not among them."""
        with self._changed:
            return len(self._jobs)

    def stop(self, timeout: float | None = None) -> None:
        """Cancel what waits, let the running job end, and end the thread."""
        with self._changed:
            self._stopping = True
            while self._jobs:
                self._jobs.popleft()[0].cancel()
            self._frame = None
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _idle(self) -> bool:
        return not (self._busy or self._jobs or self._frame is not None)

    def _run(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except Exception as error:
                self._on_defect(error)
            del work  # it holds a frame, which would otherwise live until the next one

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._stopping or not self._idle())
            if self._stopping:
                return None
            self._busy = True
            if self._jobs:
                future, job = self._jobs.popleft()
                return lambda: _fulfil(future, job)
            frame, self._frame = self._frame, None
            assert frame is not None
            return lambda: self._on_frame(frame)


def _fulfil(future: Future[Any], job: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = job()
    except Exception as error:
        future.set_exception(error)
    else:
        future.set_result(result)
