"""How a perception node is doing, as level, one line and values; knows nothing of ROS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unifiedmllm_ros.model.protocol import ModelInfo
from unifiedmllm_ros.nodes.statistics import Snapshot
from unifiedmllm_ros.runtime.counts import Counts

ERROR_SECONDS = 5.0
"""How long an error shows after it happened."""


@dataclass(frozen=True)
class Health:
    """Level ('ok', 'warn', 'error'), a line for people, and values by name."""

    level: str
    summary: str
    values: dict[str, Any]


def health(
    state: str,
    instruction: str,
    model: ModelInfo | None,
    now: Snapshot,
    counts: Counts | None = None,
) -> Health:
    """Judge a node in lifecycle state `state` with a standing instruction ('' for none).

    counts: what decoding did since the model was loaded; None for a model that does not tell.
    """
    level, summary = _judgement(state, instruction, now)
    values: dict[str, Any] = {
        'state': state,
        'model': model.name if model else '',
        'backend': f'{model.backend} {model.precision} {model.device}' if model else '',
        'engine': model.state if model else '',
        'instruction': instruction,
        'frames': now.frames,
        'frames dropped': now.dropped,
        'answers': now.answered,
        'errors': now.failed,
        'clock resets': now.clock_resets,
        'frame rate (Hz)': now.frame_rate,
        'answer rate (Hz)': now.answer_rate,
        'frame age p50 (ms)': '' if now.frame_age_ms is None else now.frame_age_ms,
    }
    if counts is not None:
        values |= {
            'tokens per second': counts.tokens_per_second,
            'prompt from cache (%)': 100 * counts.reuse_rate,
            'drafted tokens accepted (%)': 100 * counts.acceptance_rate,
        }
    values |= {f'{stage} p50 (ms)': ms for stage, ms in now.stages_ms.items()}
    return Health(level, summary, values | {'last error': now.last_error})


def _judgement(state: str, instruction: str, now: Snapshot) -> tuple[str, str]:
    if now.last_error_age is not None and now.last_error_age < ERROR_SECONDS:
        return 'error', now.last_error
    if state != 'active':
        return 'ok', state
    if not now.frame_rate:
        return 'warn', 'active, but no images arrive'
    if not instruction:
        return 'ok', 'active, no standing instruction'
    return 'ok', f'active, {now.answer_rate:.1f} answers/s of {now.frame_rate:.1f} images/s'
