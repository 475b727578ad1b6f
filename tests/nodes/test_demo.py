"""The demo over a small recording: what it prints, writes and sums up."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from tests.nodes import small_recording
from tests.nodes.scripted import ANSWERS, ScriptedModel, scripted_perceiver
from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.nodes import demo
from unifiedmllm_ros.nodes.recording import Recording


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    (tmp_path / 'sample').mkdir()
    return Recording(small_recording.write(tmp_path / 'sample'))


def run(recording: Recording, out: Path, model: ScriptedModel, **options: object) -> dict:
    return demo.run(
        recording, out, perceiver_factory=lambda _: scripted_perceiver(model), **options
    )


def test_all_questions_are_asked_answered_scored_and_written(
    recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'out'
    summary = run(recording, out, ScriptedModel())
    assert json.loads((out / 'summary.json').read_text()) == summary
    assert summary['frames'] == summary['answers'] == 6
    assert summary['errors'] == []
    assert summary['model'] == {'name': 'scripted', 'backend': 'script'}
    assert summary['boxes'] == {'wanted': 3, 'mean_iou': 1.0, 'acc_at_0.5': 1.0}
    assert summary['masks'] == {'scored': 3, 'mean_iou': 1.0, 'ciou': 1.0}
    assert summary['absent'] == {'asked': 3, 'rejected': 3}
    assert summary['latency_ms']['p50'] > 0
    assert {'encode', 'decode', 'experts'} <= set(summary['stages_ms'])
    names = [f'{index:06d}' for index in range(6)]
    assert sorted(path.stem for path in (out / 'overlays').glob('*.jpg')) == names
    assert sorted(path.stem for path in (out / 'masks').glob('*.png')) == names
    mask = cv2.imread(str(out / 'masks' / '000000.png'), cv2.IMREAD_UNCHANGED)
    assert mask[12:24, 16:32].all()
    assert mask.sum() == 12 * 16
    printed = capsys.readouterr().out
    assert printed.count('find the mug  ->  The mug is here.') == 3
    assert 'red mug [0.250, 0.250, 0.500, 0.500] (0.90)' in printed
    assert '(rightly absent)' in printed


def test_an_instruction_of_ones_own_and_fewer_frames(recording: Recording, tmp_path: Path) -> None:
    model = ScriptedModel()
    summary = run(recording, tmp_path / 'out', model, frames=2, instruction='find all bowls')
    assert set(model.asked) == {'find all bowls'}
    assert summary['answers'] == 2
    assert summary['boxes']['mean_iou'] is None


def test_wrong_answers_score_low(recording: Recording, tmp_path: Path) -> None:
    model = ScriptedModel(
        ANSWERS
        | {'find the mug': ANSWERS['find all bowls'], 'is there a hammer?': ANSWERS['find the mug']}
    )
    summary = run(recording, tmp_path / 'out', model)
    assert summary['boxes']['acc_at_0.5'] == 0.0
    assert summary['masks']['mean_iou'] < 0.5
    assert summary['absent'] == {'asked': 3, 'rejected': 0}


def test_errors_are_counted_and_the_replay_goes_on(recording: Recording, tmp_path: Path) -> None:
    model = ScriptedModel()
    model.defects = [RuntimeError('oops')]
    summary = run(recording, tmp_path / 'out', model)
    assert summary['errors'] == ['frame 0: RuntimeError: oops']
    assert summary['answers'] == 6


def test_a_model_that_is_not_there_is_named(recording: Recording, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='no-such-model'):
        demo.run(recording, tmp_path / 'out', model='no-such-model')
    with pytest.raises(ConfigError, match='holds no recording'):
        Recording(tmp_path)
