"""The entries of the shipped configuration, and the examples in its comments."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.experts.diffusion.asking import pixels, region, request
from unifiedmllm_ros.experts.configuration import ExpertEntry
from unifiedmllm_ros.experts.diffusion.expert import DiffusionExpert
from unifiedmllm_ros.experts.registry import ExpertRegistry
from unifiedmllm_ros.locations import share
from unifiedmllm_ros.tasks import TASKS

PREFIX = 'unifiedmllm_ros.experts.diffusion.'
SHIPPED = {
    name: entry
    for name, entry in ExpertRegistry.from_file().config.experts.items()
    if entry.implementation.startswith(PREFIX)
}


def commented() -> dict[str, ExpertEntry]:
    """The experts in the comments of the file."""
    text = share('config/experts.yaml').read_text(encoding='utf-8')
    lines = [line[4:] for line in text.splitlines() if line.startswith('  # ')]
    found = yaml.safe_load('\n'.join(line for line in lines if not line.startswith('Any ')))
    return {name: ExpertEntry.model_validate(entry) for name, entry in found.items()}


def built(name: str, entry: ExpertEntry, weights: Path, **defaults: Any) -> Any:
    module, _, kind = entry.implementation.partition(':')
    made = getattr(importlib.import_module(module), kind)
    given = {**entry.defaults, 'variant': entry.variant, **defaults}
    return made(name=name, weights=weights, **given)


def test_the_seven_experts_of_the_paper_and_of_removal_are_there() -> None:
    kinds = {entry.kind for entry in SHIPPED.values()}
    assert kinds == {
        TASKS[task].expert for task in ('gen', 'edit', 'regedit', 'layout', 'vidgen', 'imgvid')
    }
    assert [name for name, entry in SHIPPED.items() if entry.non_commercial] == ['modelscope_t2v']


@pytest.mark.parametrize('name', list(SHIPPED))
def test_an_entry_fits_its_class(name: str, tmp_path: Path) -> None:
    entry = SHIPPED[name]
    expert = built(name, entry, tmp_path)
    assert isinstance(expert, DiffusionExpert)
    assert entry.repo == expert.needs.repository
    assert entry.extra == 'experts'
    assert expert.needs.pipeline in entry.holds
    assert entry.licence


def test_the_examples_in_the_comments_hold_up(tmp_path: Path) -> None:
    found = commented()
    assert list(found) == ['sdxl', 'flux_schnell']
    for name, entry in found.items():
        assert isinstance(built(name, entry, tmp_path), DiffusionExpert)


SMALL: dict[str, Any] = {'width': 64, 'height': 64, 'steps': 2}


def test_a_bound_entry_runs_by_the_registry(twin: Callable[[str], Path], tmp_path: Path) -> None:
    """As a router does it: the shipped entries with other folders, bound to tasks."""
    bound = {'gen': 'stable_diffusion', 'layout': 'gligen'}
    experts = {}
    for name in bound.values():
        entry = SHIPPED[name].model_dump(exclude_unset=True)
        small = {**entry['defaults'], **SMALL}
        experts[name] = {**entry, 'weights': str(twin(name)), 'variant': '', 'defaults': small}
    path = tmp_path / 'experts.yaml'
    path.write_text(yaml.safe_dump({'experts': _plain(experts), 'tasks': bound}), encoding='utf-8')
    registry = ExpertRegistry.from_file(path)
    assert {status.state for status in registry.list()} == {'available'}
    mug = (region('mug', (0.1, 0.1, 0.5, 0.5)),)
    for task, regions in (('gen', ()), ('layout', mug)):
        result = registry.run(request(task, regions=regions))
        assert pixels(result).shape == (1, 64, 64, 3)
        assert result.provenance.expert == bound[task]
    registry.close()


def _plain(value: Any) -> Any:
    """Tuples as lists, which YAML has."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
