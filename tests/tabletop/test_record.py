"""Scene records go to JSON and back, and say what is wrong with a bad one."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unifiedmllm_ros.tabletop.lexicon import default_lexicon
from unifiedmllm_ros.tabletop.record import (
    SceneRecord,
    SceneRecordError,
    canonical_box,
    read_scenes,
)
from unifiedmllm_ros.tabletop.symbolic import sample_scene


def test_round_trip(tmp_path: Path) -> None:
    scenes = [sample_scene(Random(seed), default_lexicon()) for seed in range(3)]
    path = tmp_path / 'scenes.jsonl'
    path.write_text('\n'.join(json.dumps(s.to_json()) for s in scenes) + '\n\n')
    assert list(read_scenes(path)) == scenes


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        ({'width': None}, 'width'),
        ({'objects': {}}, 'objects'),
        ({'split': 3}, 'split'),
    ],
)
def test_wrong_fields_are_named(change: dict[str, object], named: str) -> None:
    value = sample_scene(Random(1), default_lexicon()).to_json()
    with pytest.raises(SceneRecordError, match=named):
        SceneRecord.from_json({**value, **change})


def test_missing_fields_and_short_boxes_are_named() -> None:
    value, good = (sample_scene(Random(1), default_lexicon()).to_json() for _ in range(2))
    value['objects'][0]['box'] = [0.1, 0.2, 0.3]
    with pytest.raises(SceneRecordError, match='box'):
        SceneRecord.from_json(value)
    value['objects'][0] = {k: v for k, v in good['objects'][0].items() if k != 'area'}
    with pytest.raises(SceneRecordError, match='area'):
        SceneRecord.from_json(value)


def test_the_line_is_named(tmp_path: Path) -> None:
    good = json.dumps(sample_scene(Random(1), default_lexicon()).to_json())
    path = tmp_path / 'scenes.jsonl'
    path.write_text(f'{good}\n{good[:40]}\n')
    with pytest.raises(SceneRecordError, match=r'scenes\.jsonl, line 2'):
        list(read_scenes(path))


@given(st.tuples(*[st.floats(-0.2, 1.2)] * 4))
@settings(max_examples=200, deadline=None)
def test_canonical_box_is_always_valid(corners: tuple[float, float, float, float]) -> None:
    box = canonical_box(corners)
    assert 0 <= box.x1 < box.x2 <= 1
    assert 0 <= box.y1 < box.y2 <= 1
    for value, given_value in zip(box.corners[:2], corners[:2], strict=True):
        if 0 < corners[0] < corners[2] < 1 and 0 < corners[1] < corners[3] < 1:
            assert abs(value - given_value) <= 0.0011
