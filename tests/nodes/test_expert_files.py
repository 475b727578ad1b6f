"""What comes and goes by path: videos, sounds, large images, and what can go wrong with them."""

from __future__ import annotations

import json
import os
import wave
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.nodes.expert_graph import ExpertGraph, closing
from tests.nodes.graph import raw_image
from unifiedmllm_ros.experts.base import Provenance
from unifiedmllm_ros.experts.files import write_video
from unifiedmllm_ros.msg import ErrorCode

BOX = {'red mug': (0.25, 0.25, 0.5, 0.5)}


@pytest.fixture
def experts(ros: None, tmp_path: Path) -> Iterator[ExpertGraph]:
    for graph in closing(tmp_path / 'output'):
        graph.activate()
        yield graph


def video(path: Path, frames: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [np.full((48, 64, 3), 40 * i, np.uint8) for i in range(frames)]
    return write_video(path, pictures, 8.0, Provenance('none', '', '', 0, {}, 0.0))


def beside(path: str) -> dict:
    return json.loads(Path(f'{path}.json').read_text())


def test_a_video_is_a_file_with_its_provenance(experts: ExpertGraph, tmp_path: Path) -> None:
    result = experts.execute('vidgen', 'a cat', seed=7)[0].result
    (path,) = result.paths
    assert Path(path).parent == tmp_path / 'output'
    capture = cv2.VideoCapture(path)
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 3
    told = beside(path)
    assert (told['task'], told['argument'], told['seed']) == ('vidgen', 'a cat', 7)
    assert told['expert'] == result.provenance.expert == 'text_to_video'
    assert result.images == []


def test_a_sound_is_a_file(experts: ExpertGraph) -> None:
    (path,) = experts.execute('audgen', 'rain')[0].result.paths
    with wave.open(path) as sound:
        assert (sound.getframerate(), sound.getnframes()) == (16_000, 1600)


def test_a_large_image_is_a_file(experts: ExpertGraph) -> None:
    experts.set(max_message_pixels=64 * 48)
    assert experts.execute('gen', 'a cat')[0].result.paths == []
    experts.set(max_message_pixels=64 * 48 - 1)
    result = experts.execute('gen', 'a cat', seed=7)[0].result
    assert result.images == []
    assert cv2.imread(result.paths[0]).shape == (48, 64, 3)
    assert beside(result.paths[0])['seed'] == 7


def test_masks_of_a_video_given_as_images(experts: ExpertGraph) -> None:
    images = [raw_image(i) for i in range(3)]
    result = experts.execute('vidseg', images=images, regions=BOX)[0].result
    assert len(experts.script.requests[0].frames) == 2
    assert np.count_nonzero(np.frombuffer(result.masks.data, np.uint8)) == 12 * 16
    assert len(list(Path(result.paths[0]).glob('*.png'))) == 3


def test_a_video_that_was_made_is_the_input_of_the_next_task(experts: ExpertGraph) -> None:
    (path,) = experts.execute('vidgen', 'a cat')[0].result.paths
    wrapped = experts.execute('vidseg', video_path=path, regions=BOX)[0]
    assert wrapped.result.error_code == ErrorCode.NONE, wrapped.result.error_msg
    request = experts.script.requests[-1]
    assert (len(request.frames), request.rate) == (2, 8.0)


def refused(experts: ExpertGraph, path: object) -> str:
    result = experts.execute('vidseg', video_path=str(path), regions=BOX)[0].result
    assert result.error_code == ErrorCode.INVALID_VIDEO
    assert experts.script.requests == []
    return result.error_msg


def test_videos_of_other_folders_are_refused(experts: ExpertGraph, tmp_path: Path) -> None:
    given = video(tmp_path / 'elsewhere' / 'a.mp4')
    assert 'input_folders' in refused(experts, given)
    # Nor is it told whether a file of such a folder exists.
    missing = given.with_name('b.mp4')
    assert refused(experts, missing).replace('b.mp4', 'a.mp4') == refused(experts, given)
    assert 'input_folders' in refused(experts, tmp_path / 'output' / '..' / 'elsewhere' / 'a.mp4')
    (tmp_path / 'output').mkdir(exist_ok=True)
    link = tmp_path / 'output' / 'link.mp4'
    link.symlink_to(given)
    assert 'input_folders' in refused(experts, link)
    assert 'absolute' in refused(experts, 'a.mp4')
    folders = os.pathsep.join([str(tmp_path / 'none'), str(given.parent)])
    assert experts.set(input_folders=folders).successful
    assert experts.execute('vidseg', video_path=str(given), regions=BOX)[0].result.paths


def test_videos_that_cannot_be_read(experts: ExpertGraph, tmp_path: Path) -> None:
    folder = tmp_path / 'output'
    assert 'is not there' in refused(experts, folder / 'none.mp4')
    broken = folder / 'broken.mp4'
    broken.parent.mkdir(exist_ok=True)
    broken.write_bytes(b'no video')
    assert 'broken.mp4' in refused(experts, broken)
    experts.set(max_video_frames=2)
    assert 'longer' in refused(experts, video(folder / 'long.mp4'))
    images = [raw_image(i) for i in range(3)]
    result = experts.execute('vidseg', images=images, regions=BOX)[0].result
    assert result.error_code == ErrorCode.INVALID_VIDEO
    assert 'max_video_frames' in result.error_msg


def test_a_result_that_cannot_be_written(experts: ExpertGraph, tmp_path: Path) -> None:
    occupied = tmp_path / 'occupied'
    occupied.write_text('a file where the folder should be')
    assert experts.set(output_folder=str(occupied / 'results')).successful
    result = experts.execute('vidgen', 'a cat')[0].result
    assert (result.error_code, result.paths) == (ErrorCode.RESULT_NOT_WRITTEN, [])
    assert str(occupied) in result.error_msg
    experts.set(output_folder=str(tmp_path / 'free'))
    (path,) = experts.execute('vidgen', 'a cat')[0].result.paths
    assert Path(path).parent == tmp_path / 'free'


def test_a_full_disk_leaves_nothing_behind(
    experts: ExpertGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / 'output'

    def full(descriptor: int) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('os.fsync', full)
    result = experts.execute('audgen', 'rain')[0].result
    assert (result.error_code, result.paths) == (ErrorCode.RESULT_NOT_WRITTEN, [])
    assert 'No space left' in result.error_msg
    assert list(output.iterdir()) == []


def test_a_job_that_is_cancelled_writes_nothing(experts: ExpertGraph, tmp_path: Path) -> None:
    experts.script.gate.clear()
    handle = experts.goal('vidgen', 'a cat')
    assert experts.script.started.wait(10)
    experts.result(handle.cancel_goal_async())
    result = experts.result(handle.get_result_async()).result
    assert (result.error_code, result.paths) == (ErrorCode.CANCELLED, [])
    assert not (tmp_path / 'output').exists()
