"""How an expert node, its experts and its jobs are doing; knows nothing of ROS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unifiedmllm_ros.experts.registry import ExpertStatus
from unifiedmllm_ros.nodes.expert_statistics import ExpertRecord, ExpertSnapshot, JobRecord
from unifiedmllm_ros.nodes.health import ERROR_SECONDS, Health


def node_health(state: str, jobs: Sequence[JobRecord], now: ExpertSnapshot) -> Health:
    """Judge an expert node in lifecycle state `state`; `jobs` run and wait, in their order."""
    level, summary = 'ok', state
    if now.last_error_age is not None and now.last_error_age < ERROR_SECONDS:
        level, summary = 'error', now.last_error
    elif state == 'active' and jobs:
        waiting = sum(job.state == 'queued' for job in jobs)
        summary = f'active, at work on {jobs[0].task}, {waiting} waiting'
    elif state == 'active':
        summary = 'active, idle'
    values = {
        'state': state,
        'jobs waiting': sum(job.state == 'queued' for job in jobs),
        'jobs done': now.counts.get('done', 0),
        'jobs cancelled': now.counts.get('cancelled', 0),
        'jobs failed': now.counts.get('failed', 0),
        'errors': now.errors,
        'last error': now.last_error,
    }
    return Health(level, summary, values)


def expert_healths(experts: Iterable[ExpertStatus], now: ExpertSnapshot) -> dict[str, Health]:
    """Judge each expert by name.

    An expert that no task is bound to is nobody's concern; a bound one that is missing is.
    """
    return {
        expert.name: _expert_health(expert, now.experts.get(expert.name, ExpertRecord()))
        for expert in experts
    }


def job_health(job: JobRecord) -> Health:
    """Tell of one job."""
    level = 'warn' if job.state == 'failed' else 'ok'
    summary = f'{job.task}: {job.state}'
    if job.state == 'running':
        summary += f', {job.detail} {job.progress:.0%}'
    values = {
        'id': job.number,
        'task': job.task,
        'expert': job.expert,
        'state': job.state,
        'detail': job.detail,
        'progress': f'{job.progress:.3f}',
        'seconds': job.seconds,
        'eta (s)': '' if job.eta_s is None else job.eta_s,
        **{f'{phase} (s)': seconds for phase, seconds in job.phase_seconds.items()},
        **job.facts,
        'error': job.error,
    }
    return Health(level, summary, values)


def _expert_health(expert: ExpertStatus, record: ExpertRecord) -> Health:
    missing = expert.state == 'unavailable'
    level = 'warn' if missing and expert.tasks else 'ok'
    values = {
        'state': expert.state,
        'tasks': ' '.join(expert.tasks),
        'backend': record.backend,
        'device': record.device or expert.device,
        'dtype': record.dtype,
        'weights': record.weights or expert.weights,
        'licence': expert.licence,
        'non-commercial': expert.non_commercial,
        'load (s)': expert.load_seconds,
        'memory (MiB)': expert.memory_mib,
        'runs': record.runs,
        'failed': record.failed,
        'last run (ms)': record.last_ms,
        'last error': record.last_error,
    }
    return Health(level, expert.reason if missing else expert.state, values)
