"""Generated numerical rows: the scorer agrees with each, the layouts are sound."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import pytest

from unifiedmllm_ros.cli import main
from unifiedmllm_ros.data.coco_names import COCO_NAMES, plural
from unifiedmllm_ros.data.conversation import read_conversations
from unifiedmllm_ros.data.numerical_layouts import numerical_rows, read_shapes
from unifiedmllm_ros.evaluation.nsr1k_benchmark import Nsr1kError, evaluate, read_prompts

ROWS = list(numerical_rows(600))


def test_names() -> None:
    assert len(set(COCO_NAMES)) == 80
    assert plural('wine glass') == 'wine glasses'
    assert plural('toothbrush') == 'toothbrushes'
    assert plural('person') == 'people'
    assert plural('dog') == 'dogs'


def test_kinds_and_numbers() -> None:
    kinds = Counter(row['sub-type'] for row in ROWS)
    assert set(kinds) == {'single', 'two', 'comparison', 'natural'}
    assert min(kinds.values()) > 100
    assert {len(row['object_list']) for row in ROWS} == set(range(1, 10))
    assert len({row['prompt'] for row in ROWS}) > 500


@pytest.mark.parametrize('row', ROWS[:60], ids=lambda row: row['prompt'])
def test_prompt_says_what_the_layout_shows(row: dict[str, Any]) -> None:
    shown = Counter(name for name, _ in row['object_list'])
    assert shown == dict(map(tuple, row['num_object']))
    if row['sub-type'] == 'natural':
        said_as(row['prompt'].lower(), row['num_object'])
        return
    words = ('', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight')
    for number, (name, count) in enumerate(row['num_object']):
        if number and row['sub-type'] == 'comparison':
            first = row['num_object'][0][1]
            said = {'fewer': count < first, 'more': count > first}
            assert all(holds == (word in row['prompt']) for word, holds in said.items())
        else:
            amount = f'{words[count]} {name if count == 1 else plural(name)}'
            assert amount in row['prompt']


def said_as(prompt: str, counts: list[tuple[str, int]]) -> None:
    """A caption names each class with its number, people in other words too."""
    amounts = ('', 'an? ', 'two |a couple of |a pair of |2 ', 'three |3 ', 'four |4 ', 'five |5 ')
    for name, count in counts:
        amount = (*amounts, 'six |6 ')[count]
        things = name if count == 1 else plural(name)
        words = r'[a-z]+' if name == 'person' else re.escape(things)
        assert re.search(rf'(^| )({amount})([a-z]+ )?{words}\b', prompt), (prompt, name, count)


@pytest.mark.parametrize('row', ROWS[:40], ids=lambda row: row['prompt'])
def test_boxes_lie_inside_and_do_not_overlap(row: dict[str, Any]) -> None:
    boxes = [box for _, box in row['object_list']]
    for x, y, width, height in boxes:
        assert 0 <= x < x + width <= 1.001
        assert 0 <= y < y + height <= 1.001
        assert min(width, height) > 0.01
    for (x1, y1, w1, h1), (x2, y2, w2, h2) in combinations(boxes, 2):
        across = min(x1 + w1, x2 + w2) - max(x1, x2)
        down = min(y1 + h1, y2 + h2) - max(y1, y2)
        assert min(across, down) <= 0.0021  # two roundings


def test_scorer_finds_every_row_right(tmp_path: Path) -> None:
    (tmp_path / 'numerical.train.json').write_text(json.dumps(ROWS))
    prompts = read_prompts(tmp_path, 'train')
    report = evaluate(prompts, prompts.truth())['numerical']
    assert report['accuracy'] == report['precision'] == report['recall'] == report['iou'] == 1.0
    assert report['mae'] == 0.0


def test_same_seed_same_rows() -> None:
    assert list(numerical_rows(20)) == ROWS[:20]
    assert list(numerical_rows(20, seed=1)) != ROWS[:20]


def test_shapes_come_from_spatial_rows(tmp_path: Path) -> None:
    row = {
        'id': 1,
        'prompt': 'a zebra left of a clock',
        'obj1': ['zebra', [0.0, 0.0, 0.4, 0.2]],
        'obj2': ['clock', [0.5, 0.0, 0.4, 0.01]],
        'relation': 'left',
    }
    path = tmp_path / 'spatial.train.json'
    path.write_text(json.dumps([row]))
    shapes = read_shapes(path)
    assert shapes == {'zebra': [(0.4, 0.2)]}  # the clock is a sliver
    zebras = (
        box
        for row in numerical_rows(2000, shapes=shapes)
        for name, box in row['object_list']
        if name == 'zebra'
    )
    for _, _, width, height in islice(zebras, 20):
        assert width / height == pytest.approx(2, rel=0.05)
    with pytest.raises(Nsr1kError, match='no such file'):
        read_shapes(tmp_path / 'gone.json')


def test_command_then_convert(tmp_path: Path) -> None:
    rows, out = tmp_path / 'numerical.train.json', tmp_path / 'out.jsonl'
    assert main(['data', 'numerical', '--count', '25', '--out', str(rows)]) == 0
    source = str(tmp_path)
    assert main(['data', 'convert', 'nsr1k', '--source', source, '--out', str(out)]) == 0
    made = list(read_conversations(out))
    assert len(made) == 25
    assert made[0].turns[1].text.startswith(f'<layout>{ROWS[0]["prompt"]}<p>')
