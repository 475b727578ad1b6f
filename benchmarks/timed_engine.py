"""An engine that notes how long it takes, so that a benchmark can say where the time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from unifiedmllm_ros.runtime.engine import Array, Engine, Row


class TimedEngine:
    """Another engine, and the ms of its work since `clear`: pictures encoded, passes made."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.encode_ms: list[float] = []
        self.pass_ms: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def clear(self) -> None:
        """Forget what was noted."""
        self.encode_ms, self.pass_ms = [], []

    def encode_images(self, pixels: Array) -> Array:
        """See Engine.encode_images."""
        with _noted(self.encode_ms):
            return self._engine.encode_images(pixels)

    def step_all(self, rows: Sequence[Row]) -> list[Array]:
        """See Engine.step_all."""
        with _noted(self.pass_ms):
            return self._engine.step_all(rows)


@contextmanager
def _noted(times: list[float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    times.append((time.perf_counter() - start) * 1000)


def parts(engine: TimedEngine, total_ms: float) -> dict[str, float]:
    """Return where the ms of one round went: the first pass is the one over all prompts."""
    encode, first, later = sum(engine.encode_ms), engine.pass_ms[0], sum(engine.pass_ms[1:])
    rest = total_ms - encode - first - later
    return {'encode': encode, 'first_pass': first, 'later_passes': later, 'rest': rest}


def medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the median of each part over rounds."""
    return {name: round(float(np.median([each[name] for each in rounds])), 1) for name in rounds[0]}
