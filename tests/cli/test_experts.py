"""`unifiedmllm experts` and `unifiedmllm ask` where experts make something."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.sample_frames import sample_frames
from tests.test_perception import ScriptedModel
from unifiedmllm_ros.cli import main
from unifiedmllm_ros.experts.base import Provenance, VideoResult
from unifiedmllm_ros.experts.files import read_image, save_result

BOX = '0.25,0.25,0.5,0.75'


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    image = np.full((120, 160, 3), (150, 110, 70), np.uint8)
    image[36:84, 48:72] = (220, 30, 30)
    path = tmp_path / 'table.png'
    cv2.imwrite(str(path), image[..., ::-1])
    return path


def beside(path: Path) -> dict[str, object]:
    found = json.loads(path.with_name(path.name + '.json').read_text())
    assert isinstance(found, dict)
    return found


def test_a_can_is_removed_from_a_picture(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ['--image', str(picture), '--region', f'can:{BOX}', '--argument', 'remove the can']
    out = tmp_path / 'out'
    assert main(['experts', 'run', 'regedit', *words, '--seed', '3', '--out', str(out)]) == 0
    printed = capsys.readouterr().out
    assert 'Classical stand-in' in printed
    assert str(out / 'regedit.png') in printed
    old, new = read_image(picture), read_image(out / 'regedit.png')
    assert np.abs(new[40:80, 52:68].astype(int) - (150, 110, 70)).max() < 25
    np.testing.assert_array_equal(new[:, 100:], old[:, 100:])
    record = beside(out / 'regedit.png')
    assert (record['task'], record['argument']) == ('regedit', 'remove the can')
    assert (record['expert'], record['backend'], record['seed']) == (
        'classical_region_edit',
        'classical',
        3,
    )
    # The same seed, the same machine: the same bits.
    again = tmp_path / 'again'
    assert main(['experts', 'run', 'regedit', *words, '--seed', '3', '--out', str(again)]) == 0
    assert (again / 'regedit.png').read_bytes() == (out / 'regedit.png').read_bytes()


def test_another_expert_of_the_kind_can_be_named(picture: Path, tmp_path: Path) -> None:
    words = ['--image', str(picture), '--region', f'can:{BOX}', '--out', str(tmp_path)]
    assert main(['experts', 'run', 'seg', *words, '--expert', 'grabcut']) == 0
    assert beside(tmp_path / 'seg.png')['expert'] == 'grabcut'
    labels = cv2.imread(str(tmp_path / 'seg.png'), cv2.IMREAD_UNCHANGED)
    assert labels.shape == (120, 160)
    assert labels[60, 60] == 1


def test_a_video_is_segmented(picture: Path, tmp_path: Path) -> None:
    image = read_image(picture)
    frames = tuple(np.roll(image, 2 * index, axis=1) for index in range(4))
    source = Provenance('x', 'y', '', 0, {}, 0.0)
    (video,) = save_result(VideoResult(source, frames, 10.0), tmp_path, 'v')
    words = ['--video', str(video), '--region', f'can:{BOX}', '--out', str(tmp_path / 'out')]
    assert main(['experts', 'run', 'vidseg', *words]) == 0
    assert len(list((tmp_path / 'out' / 'vidseg').glob('*.png'))) == 4
    assert beside(tmp_path / 'out' / 'vidseg')['frames'] == 4


@pytest.mark.parametrize(
    ('words', 'named'),
    [
        (['regedit', '--argument', 'remove it'], 'needs 1 or more regions'),
        (['regedit', '--region', 'can'], 'is not phrase:x1,y1,x2,y2'),
        (['regedit', '--region', 'can:0.1,0.2,0.3'], 'is not phrase:x1,y1,x2,y2'),
        (['regedit', '--region', 'can:0.9,0.2,0.3,0.4'], '0.9'),
        (['edit'], 'say what is to be done'),
        (['gen', '--argument', 'a cat'], 'no expert does the task'),
        (['dance'], "'dance' is unknown"),
        (['edit', '--argument', 'night', '--set', 'steps'], 'is not name=value'),
        (['edit', '--argument', 'night', '--expert', 'grabcut'], "of kind 'segmentation'"),
        (['edit', '--argument', 'night', '--expert', 'who'], "no expert 'who'"),
        (['edit', '--argument', 'a cat', '--seed', '1'], 'instruct_pix2pix'),
        (['videdit', '--argument', 'night', '--video', 'none.mp4'], 'none.mp4 is not there'),
    ],
)
def test_mistakes_are_one_clear_line(
    words: list[str],
    named: str,
    picture: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / 'out'
    assert main(['experts', 'run', *words, '--image', str(picture), '--out', str(out)]) == 1
    error = capsys.readouterr().err
    assert named in error
    assert len(error.strip().splitlines()) == 1
    assert not out.exists()


def test_an_image_that_is_needed_and_not_given_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ['experts', 'run', 'edit', '--argument', 'night', '--out', str(tmp_path)]
    assert main(words) == 1
    assert 'works on an image' in capsys.readouterr().err


def test_check_tells_missing_files_and_other_models_without_loading(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'sam').mkdir()
    (tmp_path / 'sam' / 'config.json').write_text('{"model_type": "bert"}')
    config = tmp_path / 'experts.yaml'
    config.write_text(
        'experts:\n'
        '  sam: {implementation: "unifiedmllm_ros.experts.sam2:Sam2", kind: segmentation,\n'
        '        weights: sam, holds: [sam2]}\n'
        'tasks: {seg: sam}\n'
    )
    words = ['experts', '--config', str(config), 'check', '--files-only']
    assert main(words) == 1
    assert 'holds bert and expert' in capsys.readouterr().out
    (tmp_path / 'sam' / 'config.json').write_text('{"model_type": "sam2"}')
    assert main(words) == 0
    assert 'seg: sam: files are complete' in capsys.readouterr().out
    assert main([*words[:-1], 'nobody']) == 1
    assert "no expert 'nobody'" in capsys.readouterr().out


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> ScriptedModel:
    """A model that says what is written here: the shipped one may not know these tasks."""
    model = ScriptedModel('')
    monkeypatch.setattr('unifiedmllm_ros.runtime.loading.load_model', lambda *_, **__: model)
    return model


def frame(tmp_path: Path) -> tuple[Path, NDArray[np.uint8], str]:
    """A frame of the sample recording, and where a thing in it is."""
    sample = sample_frames(90)[0]
    path = tmp_path / 'frame.png'
    cv2.imwrite(str(path), sample.image[..., ::-1])
    name, box = next(iter(sample.boxes.items()))
    numbers = ', '.join(f'{value:.3f}' for value in (box.x1, box.y1, box.x2, box.y2))
    return path, sample.image, f'<p>{name}</p><box>[{numbers}]</box>'


def test_ask_writes_the_edited_image(
    scripted: ScriptedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, image, place = frame(tmp_path)
    scripted.answer = f'I will take it away. <regedit>remove the can{place}</regedit>'
    out = tmp_path / 'out'
    assert main(['ask', 'take the can away', '--image', str(path), '--out', str(out)]) == 0
    printed = capsys.readouterr().out
    assert '<regedit>' in printed
    assert 'regedit: Classical stand-in: filled from the surroundings' in printed
    edited = read_image(out / 'regedit.png')
    assert edited.shape == image.shape
    changed = (edited != image).any(axis=-1)
    assert 0.0005 < changed.mean() < 0.2
    assert beside(out / 'regedit.png')['instruction'] == 'take the can away'
    assert (out / 'overlay.jpg').is_file()


def test_ask_goes_on_from_what_an_earlier_question_made(
    scripted: ScriptedModel, tmp_path: Path
) -> None:
    path, image, place = frame(tmp_path)
    answers = iter([f'<regedit>paint it blue{place}</regedit>', '<edit>black and white</edit>'])
    stream = scripted.stream

    def next_answer(*args):  # type: ignore[no-untyped-def]
        scripted.answer = next(answers)
        return stream(*args)

    scripted.stream = next_answer  # type: ignore[method-assign]
    out = tmp_path / 'out'
    questions = ['paint the mug blue', 'now make it black and white']
    assert main(['ask', *questions, '--image', str(path), '--out', str(out)]) == 0
    first, second = read_image(out / '1_regedit.png'), read_image(out / '2_edit.png')
    expected = cv2.cvtColor(cv2.cvtColor(first, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    np.testing.assert_array_equal(second, expected)
    assert (first != image).any()


def test_ask_tells_of_a_call_that_no_expert_can_do(
    scripted: ScriptedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _, _ = frame(tmp_path)
    scripted.answer = 'Here: <gen>a cat</gen>'
    assert main(['ask', 'draw a cat', '--image', str(path), '--out', str(tmp_path / 'out')]) == 1
    assert 'gen: no expert does the task' in capsys.readouterr().out
