"""Recommended models fit the machine they are recommended for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unifiedmllm_ros.model.adapters.registry import ADAPTERS, DETECTORS
from unifiedmllm_ros.runtime.catalogue import CATALOGUE
from unifiedmllm_ros.runtime.recommendation import EMBEDDED, Machine, recommend


@pytest.mark.parametrize(
    ('gib', 'whole', 'larger'),
    [
        (8, 'Qwen3-VL-2B-Instruct', 'Qwen3-VL-4B-Instruct'),
        (12, 'Qwen3-VL-4B-Instruct', 'Qwen3-VL-8B-Instruct'),
        (16, 'Qwen3-VL-4B-Instruct', 'Qwen3-VL-8B-Instruct'),
        # The 32B takes 22.1 GiB in 4 bits, of 21.6.
        (24, 'Qwen3-VL-8B-Instruct', None),
    ],
)
def test_graphics_cards(gib, whole, larger):
    found = recommend(Machine(memory=32, gpu_memory=gib))
    assert found.choice is not None
    assert (found.choice.model.name, found.choice.quantisation) == (whole, '')
    quantised = found.larger and (found.larger.model.name, found.larger.quantisation)
    assert quantised == (larger and (larger, 'bitsandbytes-4bit'))


def test_what_a_slow_memory_cannot_feed_is_not_recommended():
    thor = Machine(memory=128, gpu_memory=128, unified=True, bandwidth=273)
    assert recommend(thor).name == 'Qwen/Qwen3-VL-8B-Instruct'


def test_without_a_gpu():
    assert recommend(Machine(memory=16)).name == 'florence-community/Florence-2-base'
    assert recommend(Machine(memory=2)).name == EMBEDDED


def test_an_old_gpu_gets_float16():
    found = recommend(Machine(memory=16, gpu_memory=8, capability=(7, 5))).choice
    assert found is not None
    assert found.dtype == 'float16'


@settings(deadline=None)
@given(st.floats(0.5, 600), st.floats(0, 600), st.booleans(), st.booleans())
def test_everything_recommended_fits_and_has_an_adapter(memory, gpu, unified, commercial):
    machine = Machine(memory, gpu, unified)
    found = recommend(machine, commercial=commercial)
    for choice in (found.choice, found.larger):
        if choice is not None:
            assert choice.need <= machine.budget
            assert choice.model.family in ADAPTERS
            assert choice.model.commercial or not commercial
            assert choice.model.repository in str(choice)
    assert found.reason


def test_the_catalogue_names_known_families():
    assert {model.family for model in CATALOGUE} <= {*ADAPTERS, *DETECTORS}
    assert len({model.repository for model in CATALOGUE}) == len(CATALOGUE)
