"""Seeds: derived ones are fixed for all time, global generators are left as they were."""

from __future__ import annotations

import random

import numpy as np
import pytest

from unifiedmllm_ros.experts.seeding import derived_seed, seeded


def test_derived_seeds_are_the_same_everywhere_and_differ_by_expert_and_item() -> None:
    assert derived_seed(7, 'sd15', 0) == 5506410775378302372
    seeds = {
        derived_seed(seed, expert, item)
        for seed in (0, 1, 12)
        for expert in ('a', 'b')
        for item in (0, 1, 23)
    }
    assert len(seeds) == 18
    assert all(0 <= seed < 2**63 for seed in seeds)
    # 1, then 23 is not 12, then 3.
    assert derived_seed(1, '23') != derived_seed(12, '3')


def draw() -> tuple[float, float, float]:
    torch = pytest.importorskip('torch', reason='needs the extra [train]')
    return random.random(), float(np.random.random()), float(torch.rand(()))


@pytest.mark.parametrize('seed', [0, 5, 2**40, 2**63 - 1])
def test_the_same_seed_draws_the_same_and_the_world_outside_does_not_notice(seed: int) -> None:
    torch = pytest.importorskip('torch', reason='needs the extra [train]')
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    undisturbed = [draw(), draw()]
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = draw()
    with seeded(seed):
        first = draw()
    after = draw()
    with seeded(seed):
        second = draw()
    assert [before, after] == undisturbed
    assert first == second
    assert first not in undisturbed


def test_generators_are_put_back_after_an_error_too() -> None:
    state = np.random.get_state()[1].copy()
    with pytest.raises(ZeroDivisionError), seeded(3):
        _ = 1 // int(np.random.random())
    np.testing.assert_array_equal(np.random.get_state()[1], state)
