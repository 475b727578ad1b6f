"""Files of results and videos: whole, told of, or not there at all."""

from __future__ import annotations

import json
import resource
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from unifiedmllm_ros.errors import RequestError, VideoError, WriteError
from unifiedmllm_ros.experts.base import (
    AudioResult,
    ImageResult,
    Provenance,
    Result,
    SegmentationResult,
    VideoResult,
    VideoSegmentationResult,
)
from unifiedmllm_ros.experts.files import read_video, save_result
from unifiedmllm_ros.masks import Mask
from unifiedmllm_ros.representation import Box

SOURCE = Provenance(
    'sd', 'torch', 'unet sha256:12', 7, {'steps': 3, 'path': Path('a')}, 12.5, notices=('small',)
)


def noise(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def smooth(height: int, width: int, index: int) -> np.ndarray:
    ramp = np.linspace(20 + 10 * index, 200, width)[None, :, None]
    return np.broadcast_to(ramp, (height, width, 3)).astype(np.uint8)


def mask(left: int = 3, phrase: str = 'mug') -> Mask:
    return Mask(phrase, Box(0, 0, 1, 1), left, 2, np.ones((4, 5), bool))


def results() -> list[Result]:
    frames = tuple(smooth(48, 64, index) for index in range(5))
    return [
        ImageResult(SOURCE, (noise(),)),
        VideoResult(SOURCE, frames, 8.0),
        AudioResult(SOURCE, np.sin(np.arange(16_000) / 5).astype(np.float32), 16_000),
        SegmentationResult(SOURCE, (mask(), mask(20, 'pan'))),
        VideoSegmentationResult(SOURCE, ((mask(),), (mask(4),))),
    ]


def beside(path: Path) -> dict[str, object]:
    found = json.loads(path.with_name(path.name + '.json').read_text())
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize('result', results(), ids=lambda one: type(one).__name__)
def test_every_result_has_its_provenance_beside_it(result: Result, tmp_path: Path) -> None:
    (path,) = save_result(result, tmp_path / 'deep' / 'er', 'job', facts={'task': 'gen'})
    record = beside(path)
    assert record['file'] == path.name
    assert (record['task'], record['expert'], record['seed']) == ('gen', 'sd', 7)
    assert record['parameters'] == {'steps': 3, 'path': 'a'}
    assert record['notices'] == ['small']
    assert path.is_dir() or len(str(record['sha256'])) == 64
    names = sorted(one.name for one in path.parent.iterdir())
    assert names == sorted([path.name, path.name + '.json'])


def test_images_come_back_bit_for_bit(tmp_path: Path) -> None:
    images = noise(seed=1), noise(3, 5, seed=2)
    paths = save_result(ImageResult(SOURCE, images), tmp_path, 'two')
    assert [path.name for path in paths] == ['two_0.png', 'two_1.png']
    for path, image in zip(paths, images, strict=True):
        found = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize('size', [(48, 64), (47, 63), (1, 1), (2, 1001)])
def test_videos_come_back_with_their_frames_and_rate(size: tuple[int, int], tmp_path: Path) -> None:
    frames = tuple(smooth(*size, index) for index in range(6))
    (path,) = save_result(VideoResult(SOURCE, frames, 12.0), tmp_path, 'v')
    video = read_video(path)
    assert len(video.frames) == 6
    assert video.rate == pytest.approx(12.0)
    height, width = size
    assert beside(path)['size'] == [width, height]
    for found, frame in zip(video.frames, frames, strict=True):
        part = found[:height, :width].astype(int)
        assert np.abs(part - frame).mean() < 6


def test_sounds_are_clipped_not_wrapped(tmp_path: Path) -> None:
    samples = np.array([0.0, 1.5, -1.5, 0.5, np.nan], np.float32)
    (path,) = save_result(AudioResult(SOURCE, samples, 16_000), tmp_path, 's')
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels()) == (16_000, 1)
        heard = np.frombuffer(file.readframes(9), '<i2')
    assert heard.tolist() == [0, 32767, -32767, 16384, 0]


def test_masks_are_label_maps(tmp_path: Path) -> None:
    result = SegmentationResult(SOURCE, (mask(), mask(20, 'pan')))
    (path,) = save_result(result, tmp_path, 'm', shape=(30, 40))
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert labels.shape == (30, 40)
    assert labels[3, 4] == 1
    assert labels[3, 22] == 2
    assert np.count_nonzero(labels) == 40
    assert beside(path)['labels'] == ['mug', 'pan']


def test_masks_of_a_video_are_one_label_map_for_each_frame(tmp_path: Path) -> None:
    result = VideoSegmentationResult(SOURCE, ((mask(3),), (mask(9),)))
    (path,) = save_result(result, tmp_path, 'm', shape=(30, 40))
    files = sorted(path.iterdir())
    assert [file.name for file in files] == ['000000.png', '000001.png']
    for file, left in zip(files, (3, 9), strict=True):
        labels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        assert labels.shape == (30, 40)
        assert np.flatnonzero(labels.any(axis=0)).tolist() == list(range(left, left + 5))


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file can grow beyond `limit` bytes: writing fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize('limit', [0, 100])
@pytest.mark.parametrize('result', results(), ids=lambda one: type(one).__name__)
def test_a_full_disk_leaves_nothing_behind(result: Result, limit: int, tmp_path: Path) -> None:
    with full_disk(limit), pytest.raises(WriteError, match=r'free some space|disk not full'):
        save_result(result, tmp_path, 'job')
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_an_earlier_file_as_it_was(tmp_path: Path) -> None:
    first = ImageResult(SOURCE, (noise(seed=1),))
    (path,) = save_result(first, tmp_path, 'job')
    before = path.read_bytes(), beside(path)
    with full_disk(1000), pytest.raises(WriteError):
        save_result(ImageResult(SOURCE, (noise(seed=2),)), tmp_path, 'job')
    assert (path.read_bytes(), beside(path)) == before
    assert len(list(tmp_path.iterdir())) == 2


def test_a_large_video_on_a_full_disk_is_not_taken_for_whole(tmp_path: Path) -> None:
    frames = tuple(noise(240, 320, seed) for seed in range(12))
    with full_disk(200_000), pytest.raises(WriteError):
        save_result(VideoResult(SOURCE, frames, 10.0), tmp_path, 'v')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('stem', ['', '..', 'a/b', '../x', 'a\0b'])
def test_a_stem_is_a_name_and_no_path(stem: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match='no name'):
        save_result(results()[0], tmp_path / 'in', stem)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(WriteError, match='file/in'):
        save_result(results()[0], tmp_path / 'file' / 'in', 'x')


def test_a_missing_file_or_a_folder_is_no_video(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / 'none.mp4'):
        with pytest.raises(VideoError, match='not there'):
            read_video(path)


@pytest.mark.parametrize('content', [b'', b'not a video' * 100])
def test_what_is_no_video_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / 'v.mp4').write_bytes(content)
    with pytest.raises(VideoError, match=r'v\.mp4'):
        read_video(tmp_path / 'v.mp4')


def test_a_video_of_zero_frames_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'empty.avi'
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*'MJPG'), 10, (64, 48)
    )
    writer.release()
    assert path.is_file()
    with pytest.raises(VideoError, match='no frame'):
        read_video(path)


def test_a_frame_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / 'v.avi'
    size = (320, 240)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*'FFV1'), 10, size)
    for seed in range(6):
        writer.write(noise(240, 320, seed))
    writer.release()
    assert len(read_video(path).frames) == 6
    data = path.read_bytes()
    # The index at the end still promises six frames; the data of the later ones is gone.
    at = len(data) // 2
    path.write_bytes(data[:at] + bytes(len(data) - at - 400) + data[-400:])
    with pytest.raises(VideoError, match=r'frame \d of 6'):
        read_video(path)


def test_a_video_that_is_too_long_or_too_large_is_refused(tmp_path: Path) -> None:
    frames = tuple(smooth(48, 64, index) for index in range(6))
    (path,) = save_result(VideoResult(SOURCE, frames, 12.0), tmp_path, 'v')
    with pytest.raises(VideoError, match='longer than the 5 frames'):
        read_video(path, max_frames=5)
    with pytest.raises(VideoError, match='64x48: at most 100 pixels'):
        read_video(path, max_pixels=100)


def test_a_video_without_frames_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match='without frames'):
        save_result(VideoResult(SOURCE, (), 1.0), tmp_path, 'v')
