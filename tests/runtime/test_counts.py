"""What decoding counts, and where it shows."""

from __future__ import annotations

from unifiedmllm_ros.model.protocol import ModelInfo
from unifiedmllm_ros.runtime.counts import Counts
from unifiedmllm_ros.runtime.decoding import DecodedToken


def test_nothing_counted_gives_rates_of_zero() -> None:
    counts = Counts()
    assert (counts.tokens_per_second, counts.reuse_rate, counts.acceptance_rate) == (0, 0, 0)


def test_sums_and_rates() -> None:
    counts = Counts()
    counts.add_prompt(40, 30)
    tokens = [DecodedToken(1, -0.1, forced=False), DecodedToken(2, 0.0, forced=True)]
    counts.add_pass(0.25)
    counts.add_tokens(tokens, drafted=4, accepted=1)
    counts.add_pass(0.25)
    counts.add_tokens(tokens[:1], drafted=0, accepted=0)
    assert (counts.answers, counts.passes, counts.tokens, counts.forced) == (1, 2, 3, 1)
    assert counts.tokens_per_second == 6
    assert (counts.reuse_rate, counts.acceptance_rate) == (0.75, 0.25)


def test_diagnostics_tell_of_them() -> None:
    from unifiedmllm_ros.nodes.health import health
    from unifiedmllm_ros.nodes.statistics import Statistics

    now = Statistics().snapshot()
    info = ModelInfo('tiny', 'onnxruntime 1')
    counts = Counts(tokens=20, seconds=2.0, prompt=4, reused=1, drafted=2, accepted=1)
    values = health('active', '', info, now, counts).values
    assert values['tokens per second'] == 10
    assert values['prompt from cache (%)'] == 25
    assert values['drafted tokens accepted (%)'] == 50
    assert 'tokens per second' not in health('active', '', info, now).values
