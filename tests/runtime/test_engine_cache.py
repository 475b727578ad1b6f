"""The cache of built engines: hits, misses, and files that cannot be used are named."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from unifiedmllm_ros.errors import EngineFileError
from unifiedmllm_ros.runtime.engine_cache import FOLDER_VARIABLE, EngineCache, EngineKey

KEY = EngineKey(
    model='twin',
    graph='decoder',
    weights='a' * 64,
    library='tensorrt_rtx',
    version='1.7.1',
    capability='8.9',
    precision='fp16',
    profile='c64f5',
)
PLAN = bytes(range(256)) * 8


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache.open(tmp_path / 'engines')


def test_miss_then_hit(cache: EngineCache) -> None:
    assert cache.load(KEY) is None
    file = cache.store(KEY, PLAN)
    assert file.name == 'twin-decoder-sm8.9-fp16-c64f5.engine'
    assert cache.load(KEY) == PLAN
    assert [path.name for path in cache.folder.iterdir()] == [file.name]


@pytest.mark.parametrize('field', ['capability', 'precision', 'profile', 'graph', 'model'])
def test_another_place_is_a_miss(cache: EngineCache, field: str) -> None:
    cache.store(KEY, PLAN)
    assert cache.load(dataclasses.replace(KEY, **{field: 'other'})) is None


@pytest.mark.parametrize('field', ['weights', 'library', 'version'])
def test_what_has_changed_since_is_stale(cache: EngineCache, field: str) -> None:
    file = cache.store(KEY, PLAN)
    with pytest.raises(EngineFileError, match=f'(?s){file.name}: stale.*{field}.*--rebuild'):
        cache.load(dataclasses.replace(KEY, **{field: 'other'}))


def test_an_engine_of_another_gpu_is_foreign(cache: EngineCache) -> None:
    other = dataclasses.replace(KEY, capability='12.0')
    os.replace(cache.store(other, PLAN), cache.folder / KEY.file)
    with pytest.raises(EngineFileError, match=r"foreign, .*'12\.0' where '8\.9'"):
        cache.load(KEY)


def test_truncated_and_damaged_files_are_named(cache: EngineCache) -> None:
    file = cache.store(KEY, PLAN)
    content = file.read_bytes()
    file.write_bytes(content[:-10])
    with pytest.raises(EngineFileError, match=r'truncated, 2038 of 2048 bytes'):
        cache.load(KEY)
    file.write_bytes(content[:-1] + b'!')
    with pytest.raises(EngineFileError, match='sha256'):
        cache.load(KEY)


@pytest.mark.parametrize('content', [b'', b'\x00' * 99, b'{}\n', b'[1]\nx', b'7'])
def test_a_file_that_is_no_engine_is_named(cache: EngineCache, content: bytes) -> None:
    (cache.folder / KEY.file).write_bytes(content)
    with pytest.raises(EngineFileError, match=KEY.file):
        cache.load(KEY)


def test_a_cache_that_cannot_be_written_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(EngineFileError, match=FOLDER_VARIABLE):
        EngineCache.open(tmp_path / 'file')


def test_the_folder_is_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / 'here'))
    assert EngineCache.open().folder == tmp_path / 'here'


def test_a_full_disk_leaves_no_half_file(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'replace', full)
    with pytest.raises(EngineFileError, match='No space left'):
        cache.store(KEY, PLAN)
    assert not list(cache.folder.iterdir())
