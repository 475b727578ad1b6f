"""Further spatial rows: the scorer agrees with each, and each says what it shows."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest

from unifiedmllm_ros.cli import main
from unifiedmllm_ros.data.conversation import read_conversations
from unifiedmllm_ros.data.spatial_layouts import spatial_rows
from unifiedmllm_ros.evaluation.nsr1k_benchmark import Nsr1kError, evaluate, read_prompts

GIVEN = [
    {
        'id': 4,
        'prompt': 'a zebra to the left of a clock',
        'obj1': ['zebra', [0.0, 0.1, 0.4, 0.2]],
        'obj2': ['clock', [0.5, 0.1, 0.4, 0.1]],
        'relation': 'left',
    },
    {
        'id': 9,
        'prompt': 'A small Dog sitting on top of a bed, right of a wall.',
        'obj1': ['dog', [0.3, 0.1, 0.2, 0.2]],
        'obj2': ['bed', [0.1, 0.4, 0.6, 0.4]],
        'relation': 'top',
    },
]


@pytest.fixture
def given(tmp_path: Path) -> Path:
    path = tmp_path / 'spatial.train.json'
    path.write_text(json.dumps(GIVEN))
    return path


def test_scorer_finds_every_row_right(given: Path, tmp_path: Path) -> None:
    made = list(spatial_rows(given, 300))
    assert [row['id'] for row in made] == list(range(10, 310))
    (tmp_path / 'more').mkdir()
    (tmp_path / 'more' / 'spatial.train.json').write_text(json.dumps(made))
    prompts = read_prompts(tmp_path / 'more', 'train')
    assert evaluate(prompts, prompts.truth())['spatial']['accuracy'] == 1.0


def test_rows_name_other_things_in_the_same_sentences(given: Path) -> None:
    made = list(spatial_rows(given, 300))
    names = {row[part][0] for row in made for part in ('obj1', 'obj2')}
    assert len(names) > 60
    for row in made:
        first, second = row['obj1'][0], row['obj2'][0]
        words = row['prompt'].lower()
        assert first in words
        assert second in words
        if ' to the ' in words:
            assert f'a {first} to the {row["relation"]} of a {second}' == words
    assert {row['relation'] for row in made} == {'left', 'right', 'top'}


def test_of_things_next_to_each_other_the_first_named_is_on_the_left(tmp_path: Path) -> None:
    row = {**GIVEN[0], 'prompt': 'a clock next to a zebra', 'relation': 'next to'}
    path = tmp_path / 'spatial.train.json'
    path.write_text(json.dumps([row]))
    for made in spatial_rows(path, 40):
        (first, left), (second, right) = made['obj1'], made['obj2']
        assert made['prompt'].index(first) < made['prompt'].index(second)
        assert left[0] + left[2] <= right[0]


def test_boxes_lie_in_the_picture_apart_and_in_the_shape_of_their_class(given: Path) -> None:
    for row in spatial_rows(given, 200):
        (first, a), (second, b) = row['obj1'], row['obj2']
        for name, (x, y, width, height) in ((first, a), (second, b)):
            assert 0 <= x < x + width <= 1
            assert 0 <= y < y + height <= 1
            if name == 'zebra':
                assert width / height == pytest.approx(2, rel=0.05)
        across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
        down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
        assert min(across, down) <= 0


def test_same_seed_same_rows(given: Path) -> None:
    rows = list(spatial_rows(given, 20))
    assert list(islice(spatial_rows(given, 50), 20)) == rows
    assert list(spatial_rows(given, 20, seed=1)) != rows


def test_command_then_convert(given: Path, tmp_path: Path) -> None:
    rows, out = tmp_path / 'more' / 'spatial.train.json', tmp_path / 'out.jsonl'
    words = ['data', 'spatial', '--rows', str(given), '--count', '25', '--out', str(rows)]
    assert main(words) == 0
    assert main(['data', 'convert', 'nsr1k', '--source', str(rows.parent), '--out', str(out)]) == 0
    assert len(list(read_conversations(out))) == 25


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(Nsr1kError, match='no such file'):
        list(spatial_rows(tmp_path / 'gone.json', 1))
