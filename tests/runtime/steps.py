"""Steps over several sequences, compared with torch one by one; for every engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unifiedmllm_ros.runtime.engine import Row

from .conftest import HIDDEN, VISUAL_TOKENS, TinyModel

FIRST = [7, 8]


def check_steps_over_several(
    tiny: TinyModel, engine: Any, lengths: Sequence[int], seed: int
) -> None:
    """Grow forks of one sequence together, by ids and pictures, with cuts; compare all logits."""
    rng = np.random.default_rng(seed)
    base = engine.new_cache()
    engine.step(FIRST, base)
    caches = [base.fork() for _ in lengths]
    pictures = rng.normal(size=(len(lengths), VISUAL_TOKENS, HIDDEN)).astype(np.float32)
    ids = [rng.integers(0, 1000, length).tolist() for length in lengths]
    # Each second one sees a picture in the middle of its ids.
    rows = [
        Row(own, cache, [(len(own) // 2, picture)] if place % 2 else [])
        for place, (own, cache, picture) in enumerate(zip(ids, caches, pictures, strict=True))
    ]
    said = engine.step_all(rows)
    for cache in caches[::2]:  # cut back, as after a wrong draft
        cache.truncate(cache.length - len(lengths) % 2)
    more = [rng.integers(0, 1000, 1 + place).tolist() for place in range(len(lengths))]
    later = engine.step_all(
        [Row(own, cache, last=1) for own, cache in zip(more, caches, strict=True)]
    )
    for place, (own, row) in enumerate(zip(ids, rows, strict=True)):
        middle = len(own) // 2
        features = pictures[place] if row.pictures else None
        begin, end = [*FIRST, *own[:middle]], own[middle:]
        expected = tiny.reference(features, begin, end)
        shown = len(begin) + (VISUAL_TOKENS if row.pictures else 0)
        np.testing.assert_allclose(
            said[place],
            np.concatenate((expected[len(FIRST) : len(begin)], expected[shown:])),
            atol=2e-3,
        )
        kept = end[: len(end) - (len(lengths) % 2 if place % 2 == 0 else 0)]
        expected = tiny.reference(features, begin, [*kept, *more[place]])
        np.testing.assert_allclose(later[place], expected[-1:], atol=2e-3)
    assert base.length == len(FIRST)
    np.testing.assert_allclose(
        engine.step([9], base), tiny.reference(None, [*FIRST, 9])[-1:], atol=1e-3
    )
