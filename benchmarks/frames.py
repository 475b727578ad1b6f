"""Frames and questions that the measurements use: those of the sample recording."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.locations import share_path

QUESTIONS = (
    'segment the mug',
    'find the bowl',
    'segment all objects',
    'mask the leftmost thing',
    'how many bowls are there',
    'where is the hammer',
)


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    """p50, p90, p99 and mean of a list of times."""
    p50, p90, p99 = np.percentile(milliseconds, [50, 90, 99])
    values = {'p50': p50, 'p90': p90, 'p99': p99, 'mean': float(np.mean(milliseconds))}
    return {name: round(float(value), 2) for name, value in values.items()}
