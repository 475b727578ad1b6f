"""The jobs that wait for the experts, and the one that runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from unifiedmllm_ros.errors import Cancelled, UnifiedMLLMError
from unifiedmllm_ros.nodes.frame import BusyError
from unifiedmllm_ros.nodes.job import Job, Outcome
from unifiedmllm_ros.nodes.worker import Worker


class JobQueue:
    """Runs jobs one after the other in a worker's thread; each knows how many are before it.

    Args:
        worker: whose thread does the work.
        work: what is done for a job.
        most_waiting: how many jobs may wait at this moment.
        ended: is told of each job that has ended, after its client.
        on_defect: is told what a job's client or `ended` raised.
    """

    def __init__(
        self,
        worker: Worker[Any],
        work: Callable[[Job], Outcome],
        most_waiting: Callable[[], int],
        ended: Callable[[Job], None],
        on_defect: Callable[[BaseException], None],
    ) -> None:
        self._worker = worker
        self._work = work
        self._most_waiting = most_waiting
        self._ended = ended
        self._on_defect = on_defect
        self._lock = threading.Lock()
        self._waiting: list[Job] = []
        self._running: Job | None = None

    @property
    def running(self) -> Job | None:
        """The job that runs."""
        return self._running

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The job that runs and those that wait, in their order."""
        with self._lock:
            return (*([self._running] if self._running else []), *self._waiting)

    def add(self, job: Job) -> None:
        """Queue a job; one too many ends at once with BusyError."""
        most = self._most_waiting()
        with self._lock:
            full = len(self._waiting) >= most
            if not full:
                self._waiting.append(job)
        if full:
            self._finish(
                job, BusyError(f'{most} jobs are waiting already (max_pending_jobs): ask later')
            )
            return
        self._tell_positions()
        # A worker that has stopped drops the job; its node is going down.
        self._worker.submit(partial(self._run, job)).add_done_callback(self._observe)

    def sweep(self) -> None:
        """End the waiting jobs that were asked to stop; the running one stops by itself."""
        with self._lock:
            stopped = [job for job in self._waiting if job.cancel()]
            self._waiting = [job for job in self._waiting if job not in stopped]
        for job in stopped:
            self._finish(job, Cancelled('the job was cancelled while it waited'))
        if stopped:
            self._tell_positions()

    def stop_all(self, reason: UnifiedMLLMError) -> None:
        """Stop all jobs, for a reason that their clients are told."""
        for job in self.jobs:
            job.stop(reason)
        self.sweep()

    def _observe(self, done: Future[None]) -> None:
        if not done.cancelled() and (defect := done.exception()) is not None:
            self._on_defect(defect)

    # In the worker's thread.

    def _run(self, job: Job) -> None:
        with self._lock:
            if job not in self._waiting:
                return
            self._waiting.remove(job)
            self._running = job
        self._tell_positions()
        outcome: Outcome | BaseException
        try:
            if job.cancel():
                raise Cancelled('the job was cancelled while it waited')
            outcome = self._work(job)
        except Exception as error:
            outcome = error
        # Whoever hears of the end finds the experts free.
        with self._lock:
            self._running = None
        self._finish(job, outcome)

    def _finish(self, job: Job, outcome: Outcome | BaseException) -> None:
        job.finish(outcome)
        self._ended(job)

    def _tell_positions(self) -> None:
        for position, job in enumerate(self.jobs):
            job.move(position)
