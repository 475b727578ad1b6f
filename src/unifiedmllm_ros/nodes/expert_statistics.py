"""What an expert node remembers of its jobs, for its diagnostics. Thread-safe."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unifiedmllm_ros.bridge.error_codes import error_message
from unifiedmllm_ros.errors import Cancelled, UnifiedMLLMError
from unifiedmllm_ros.experts.base import Provenance
from unifiedmllm_ros.nodes.job import Job, Outcome


@dataclass(frozen=True)
class ExpertRecord:
    """What one expert did: its runs, how many failed, where it ran last and why it failed last."""

    runs: int = 0
    failed: int = 0
    backend: str = ''
    device: str = ''
    dtype: str = ''
    weights: str = ''
    last_ms: float = 0.0
    last_error: str = ''


@dataclass(frozen=True)
class JobRecord:
    """A job at one moment: who does what, how far it is, how long each phase took, in seconds."""

    number: int
    task: str
    expert: str
    state: str
    progress: float
    detail: str
    seconds: float
    phase_seconds: Mapping[str, float]
    facts: Mapping[str, Any]
    error: str = ''

    @property
    def eta_s(self) -> float | None:
        """Seconds that a running job will still take at its present pace, where that is known."""
        spent = self.phase_seconds.get('running', 0.0)
        if self.state != 'running' or not self.progress or not spent:
            return None
        return spent * (1.0 - self.progress) / self.progress


@dataclass(frozen=True)
class ExpertSnapshot:
    """Counters of a node's jobs, what its experts did, and the job that ended last."""

    counts: Mapping[str, int] = field(default_factory=dict)
    experts: Mapping[str, ExpertRecord] = field(default_factory=dict)
    last_job: JobRecord | None = None
    errors: int = 0
    last_error: str = ''
    last_error_age: float | None = None


class ExpertStatistics:
    """Counts jobs by how they ended, and keeps a record of each expert."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._experts: dict[str, ExpertRecord] = {}
        self._last_job: JobRecord | None = None
        self._errors = 0
        self._last_error = ''
        self._last_error_time: float | None = None

    def ended(self, job: Job) -> None:
        """Take note of a job that has ended."""
        record = job_record(job)
        with self._lock:
            self._counts[record.state] += 1
            self._last_job = record
            if job.expert:
                known = self._experts.get(job.expert, ExpertRecord())
                self._experts[job.expert] = _after(known, job)

    def error(self, text: str) -> None:
        """Count a failure and remember what it was."""
        with self._lock:
            self._errors += 1
            self._last_error = text
            self._last_error_time = time.monotonic()

    def snapshot(self) -> ExpertSnapshot:
        """Return the present state."""
        with self._lock:
            since = self._last_error_time
            return ExpertSnapshot(
                dict(self._counts),
                dict(self._experts),
                self._last_job,
                self._errors,
                self._last_error,
                None if since is None else time.monotonic() - since,
            )


def job_record(job: Job) -> JobRecord:
    """Return how a job stands or ended: a phase, or 'done', 'cancelled', 'failed'."""
    standing, ended = job.standing, job.ended
    error = error_message(ended) if isinstance(ended, BaseException) else ''
    facts = dict(job.facts)
    if isinstance(ended, Outcome):
        provenance = ended.result.provenance
        facts |= {'files': ', '.join(ended.paths), 'notices': '; '.join(provenance.notices)}
    return JobRecord(
        job.number,
        job.task,
        job.expert,
        standing.phase.name.lower() if ended is None else _ending(ended),
        standing.progress,
        standing.detail,
        job.seconds,
        job.seconds_by_phase(),
        facts,
        error,
    )


def _ending(ended: Outcome | BaseException) -> str:
    if isinstance(ended, Outcome):
        return 'done'
    stopped = isinstance(ended, UnifiedMLLMError) and ended.code == Cancelled.code
    return 'cancelled' if stopped else 'failed'


def _after(known: ExpertRecord, job: Job) -> ExpertRecord:
    ended = job.ended
    values = {**vars(known), 'runs': known.runs + 1}
    if isinstance(ended, Outcome):
        values |= _ran(ended.result.provenance)
    elif ended is not None and _ending(ended) == 'failed':
        values |= {'failed': known.failed + 1, 'last_error': error_message(ended)}
    return ExpertRecord(**values)


def _ran(provenance: Provenance) -> dict[str, Any]:
    return {
        'backend': provenance.backend,
        'device': provenance.device,
        'dtype': provenance.dtype,
        'weights': provenance.weights,
        'last_ms': provenance.duration_ms,
    }
