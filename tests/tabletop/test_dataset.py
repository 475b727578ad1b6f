"""The data set on disk: complete, the same again, and going on after an interruption."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.tabletop.conftest import SMALL_WORLD
from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.tabletop.dataset import DatasetRequest, pixel_box, write_dataset
from unifiedmllm_ros.tabletop.record import read_scenes
from unifiedmllm_ros.tabletop.sampling import Wanted

pytestmark = pytest.mark.usefixtures('renderable')


def request_for(folder: Path, count: int = 4) -> DatasetRequest:
    return DatasetRequest(folder, count, Wanted('test', held_out=True), 96, 72, SMALL_WORLD)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob('*') if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope='module')
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('whole')
    assert write_dataset(request_for(folder)) == 4
    return folder


def test_files_agree_with_the_records(written: Path) -> None:
    scenes = list(read_scenes(written / 'scenes.jsonl'))
    assert [scene.id for scene in scenes] == ['000000', '000001', '000002', '000003']
    for scene in scenes:
        image = cv2.imread(str(written / scene.image))
        mask = cv2.imread(str(written / scene.mask), cv2.IMREAD_UNCHANGED)
        assert image is not None
        assert mask is not None
        assert image.shape == (72, 96, 3)
        assert mask.shape == (72, 96)
        assert set(np.unique(mask)) - {0} == {item.index + 1 for item in scene.objects}
        for item in scene.objects:
            assert pixel_box(mask == item.index + 1) == item.box


def test_a_broken_run_goes_on_to_the_same_result(written: Path, tmp_path: Path) -> None:
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    lines = (written / 'scenes.jsonl').read_bytes().splitlines(keepends=True)
    (tmp_path / 'scenes.jsonl').write_bytes(b''.join(lines[:2]) + lines[2][:20])
    for name in ('images/000003.jpg', 'masks/000002.png', 'masks/000003.png'):
        (tmp_path / name).unlink()
    told: list[int] = []
    assert write_dataset(request_for(tmp_path), on_scene=told.append) == 2
    assert told == [2, 3, 4]
    assert contents(tmp_path) == contents(written)


def test_a_finished_run_does_nothing(written: Path) -> None:
    before = contents(written)
    assert write_dataset(request_for(written)) == 0
    assert contents(written) == before


def test_another_request_in_the_same_folder_is_refused(written: Path) -> None:
    other = replace(request_for(written, 6), wanted=Wanted('test', held_out=True, seed=1))
    with pytest.raises(ConfigError, match='begun with seed 0'):
        write_dataset(other)


def test_two_workers_write_the_same(written: Path, tmp_path: Path) -> None:
    write_dataset(request_for(tmp_path), workers=2)
    assert contents(tmp_path) == contents(written)
