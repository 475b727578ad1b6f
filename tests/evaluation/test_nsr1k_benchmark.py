"""The NSR-1K test from files to means, and what is wrong with bad files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unifiedmllm_ros.cli import main
from unifiedmllm_ros.evaluation.nsr1k_benchmark import (
    Nsr1kError,
    evaluate,
    read_predictions,
    read_prompts,
)

SAMPLE = Path(__file__).parents[1] / 'data/nsr1k'
LEFT, RIGHT = [0.0, 0.4, 0.2, 0.2], [0.8, 0.4, 0.2, 0.2]
SPATIAL = [
    {
        'id': 1,
        'prompt': 'a dog left of a cat',
        'obj1': ['dog', LEFT],
        'obj2': ['cat', RIGHT],
        'relation': 'left',
        'type': 'template',
    },
    {
        'id': 2,
        'prompt': 'a dog below a cat',
        'obj1': ['dog', [0, 0, 0, 0]],
        'obj2': ['cat', [0, 0, 0, 0]],
        'relation': 'bottom',
        'type': 'natural',
    },
]
NUMERICAL = [
    {
        'id': 1,
        'prompt': 'one dog',
        'num_object': [['dog', 1]],
        'object_list': [['dog', LEFT]],
        'sub-type': 'single',
    },
    {
        'id': 2,
        'prompt': 'fewer cats than dogs',
        'num_object': [['cat', 1], ['dog', 2]],
        'object_list': [['cat', LEFT], ['dog', LEFT], ['dog', RIGHT]],
        'sub-type': 'comparison',
    },
]
GOOD = [['dog', LEFT], ['cat', RIGHT]]
BAD = [['dog', RIGHT], ['cat', LEFT]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / 'spatial.val.json').write_text(json.dumps(SPATIAL))
    (tmp_path / 'counting').mkdir()
    (tmp_path / 'counting/counting.val.json').write_text(json.dumps(NUMERICAL))
    return tmp_path


def _predictions(folder: Path, *lines: dict[str, Any] | str) -> Path:
    path = folder / 'said.jsonl'
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text('\n'.join(texts) + '\n')
    return path


def _said(part: str, id: int, *samples: Any) -> dict[str, Any]:
    return {'part': part, 'id': id, 'samples': samples}


def test_truth_against_itself(data: Path) -> None:
    prompts = read_prompts(data)
    report = evaluate(prompts, prompts.truth())
    # A prompt whose boxes are all zero is missing even from the truth: the published ceiling.
    assert report['spatial'] == {'prompts': 2, 'unanswered': 0, 'accuracy': 0.5, 'missing': 0.5}
    assert report['numerical']['accuracy'] == 1.0
    assert report['numerical']['precision'] == 1.0


def test_samples_are_averaged_and_unanswered_prompts_are_wrong(data: Path) -> None:
    prompts = read_prompts(data)
    path = _predictions(
        data,
        _said('spatial', 1, GOOD, BAD),
        _said('numerical', 2, [['cat', LEFT]], [['cat', LEFT], ['dog', LEFT], ['dog', LEFT]]),
    )
    report = evaluate(prompts, read_predictions(path, prompts))
    assert report['spatial'] == {'prompts': 2, 'unanswered': 1, 'accuracy': 0.25, 'missing': 0.5}
    # Two wrong samples of prompt 1, one right of two of prompt 2; the latter has an accuracy only.
    expected = {'accuracy': 0.25, 'precision': 0.0, 'recall': 0.0, 'iou': 0.0, 'mae': 1.0}
    assert report['numerical'] == {'prompts': 2, 'unanswered': 1, **expected}


def test_command(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _predictions(data, _said('spatial', 1, GOOD), _said('numerical', 1, [['dog', LEFT]]))
    out = data / 'report' / 'nsr1k.json'
    words = ['eval', 'nsr1k', '--data', str(data), '--predictions', str(path), '--json', str(out)]
    assert main(words) == 0
    assert 'spatial: prompts 2, unanswered 1, accuracy 0.5' in capsys.readouterr().out
    assert json.loads(out.read_text())['numerical']['accuracy'] == 0.5


@pytest.mark.parametrize(
    ('lines', 'complaint'),
    [
        (['{"part": "spatial"'], r'line 1, field the value: Invalid JSON'),
        ([_said('spatial', 1)], r'line 1, field samples'),
        ([_said('spatial', 1, [['dog', [0, 0, 1]]])], r'line 1, field samples\.0\.0\.1\.3'),
        (['', _said('temporal', 1, GOOD)], r'line 2, field part'),
        ([_said('spatial', 1, GOOD), _said('spatial', 1, GOOD)], r'line 2: spatial prompt 1 has'),
        ([_said('spatial', 1, GOOD), _said('spatial', 2, GOOD, BAD)], r'line 2: has 2 samples'),
        ([_said('spatial', 9, GOOD)], r'predicts spatial 9, which is no prompt'),
        ([], r'predicts nothing'),
    ],
)
def test_bad_predictions(data: Path, lines: list[Any], complaint: str) -> None:
    with pytest.raises(Nsr1kError, match=complaint):
        read_predictions(_predictions(data, *lines), read_prompts(data))


def test_bad_prompts(tmp_path: Path) -> None:
    with pytest.raises(Nsr1kError, match='neither'):
        read_prompts(tmp_path)
    row = {**NUMERICAL[1], 'num_object': [['cat', 1]]}
    (tmp_path / 'numerical.val.json').write_text(json.dumps([row]))
    with pytest.raises(Nsr1kError, match=r'numerical\.val\.json, field 0: .*two classes'):
        read_prompts(tmp_path)


def test_real_training_rows() -> None:
    prompts = read_prompts(SAMPLE, 'train')
    assert {row.relation for row in prompts.spatial} == {
        'left',
        'right',
        'top',
        'bottom',
        'next to',
    }
    assert evaluate(prompts, prompts.truth())['spatial']['accuracy'] == 1.0
    swapped = {
        key: [[(layout[0][0], layout[1][1]), (layout[1][0], layout[0][1])]]
        for key, (layout,) in prompts.truth().items()
    }
    beside = sum(row.relation == 'next to' for row in prompts.spatial)
    accuracy = evaluate(prompts, swapped)['spatial']['accuracy']
    assert accuracy == pytest.approx(beside / len(prompts.spatial))
