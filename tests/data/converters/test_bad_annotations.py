"""Any value in the place of any other: a row is counted or the set is refused, nothing else."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.data.converters.layouts import LAYOUTS
from unifiedmllm_ros.data.conversation import read_conversations
from unifiedmllm_ros.data.converters.command import convert
from unifiedmllm_ros.data.converters.folder import ConversionError

WRONG: tuple[Any, ...] = (None, 3, -1.5, 'x', '', [], {}, [1], True, '\ud800', float('inf'))
TRIED = 25  # damaged places of each set


@pytest.mark.parametrize('name', LAYOUTS)
def test_damaged_json(name: str, tmp_path: Path) -> None:
    LAYOUTS[name](tmp_path)
    damages = list(_damages(tmp_path))
    for path, text in Random(name).sample(damages, min(TRIED, len(damages))):
        whole = path.read_bytes()
        path.write_text(text, encoding='utf-8')
        try:
            convert(name, tmp_path, tmp_path / 'all.jsonl')
        except ConversionError:
            continue
        finally:
            path.write_bytes(whole)
        assert all(read_conversations(tmp_path / 'all.jsonl'))


def _damages(root: Path) -> Iterator[tuple[Path, str]]:
    """Every JSON file with one value replaced."""
    for path in sorted(root.rglob('*.json')):
        try:
            value = json.loads(path.read_bytes())
        except ValueError:
            continue
        for place in _places(value):
            for wrong in WRONG:
                yield path, json.dumps(_replaced(value, place, wrong))


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(each, (*place, key))


def _replaced(value: Any, place: tuple[Any, ...], wrong: Any) -> Any:
    if not place:
        return wrong
    value = copy.deepcopy(value)
    at = value
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = wrong
    return value
