"""Folders of weights that lack something, or hold something else, are told without loading them."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from unifiedmllm_ros.errors import MissingExtraError, ModelFileError
from unifiedmllm_ros.experts import weight_files
from unifiedmllm_ros.experts.configuration import ExpertEntry
from unifiedmllm_ros.experts.weight_files import RECORD, check_extra, check_files, digest


def entry(**fields: object) -> ExpertEntry:
    return ExpertEntry.model_validate(
        {'implementation': 'x:Y', 'kind': 'k', 'weights': 'w', **fields}
    )


def safetensors(size: int) -> bytes:
    header = json.dumps({'w': {'dtype': 'U8', 'shape': [size], 'data_offsets': [0, size]}})
    return struct.pack('<Q', len(header)) + header.encode() + bytes(size)


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    folder = tmp_path / 'sd'
    for part in ('unet', 'vae'):
        (folder / part).mkdir(parents=True)
        (folder / part / 'config.json').write_text('{}')
        (folder / part / 'model.safetensors').write_bytes(safetensors(300))
    (folder / 'model_index.json').write_text(
        json.dumps(
            {
                '_class_name': 'StableDiffusionPipeline',
                'unet': ['diffusers', 'UNet2DConditionModel'],
                'vae': ['diffusers', 'AutoencoderKL'],
                'safety_checker': [None, None],
            }
        )
    )
    return folder


SD = entry(holds=['StableDiffusionPipeline'], repo='a/b')


def test_a_whole_folder_passes(pipeline: Path) -> None:
    check_files('sd', SD, pipeline, deep=True)


def test_missing_parts_are_named_with_the_remedy(pipeline: Path) -> None:
    for file in (pipeline / 'vae').iterdir():
        file.unlink()
    (pipeline / 'vae').rmdir()
    with pytest.raises(ModelFileError, match=r"'sd' finds no vae.*unifiedmllm experts download sd"):
        check_files('sd', SD, pipeline)


def test_another_model_is_named(pipeline: Path) -> None:
    with pytest.raises(ModelFileError, match=r'holds StableDiffusionPipeline.*needs Other or More'):
        check_files('sd', entry(holds=['Other', 'More']), pipeline)
    (pipeline / 'model_index.json').unlink()
    with pytest.raises(ModelFileError, match='holds no model'):
        check_files('sd', SD, pipeline)


def test_models_of_transformers_are_known_by_type_and_architecture(tmp_path: Path) -> None:
    (tmp_path / 'config.json').write_text('{"model_type": "sam2", "architectures": ["Sam2Model"]}')
    check_files('sam', entry(holds=['sam2']), tmp_path)
    check_files('sam', entry(holds=['Sam2Model']), tmp_path)


@pytest.mark.parametrize('kept', [0, 4, 20, 0.5, 0.99])
def test_a_file_that_is_cut_short_is_named(pipeline: Path, kept: float) -> None:
    path = pipeline / 'unet' / 'model.safetensors'
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data) if 0 < kept < 1 else kept)])
    with pytest.raises(ModelFileError, match=r'unet/model\.safetensors is not a whole'):
        check_files('sd', SD, pipeline)


@pytest.mark.parametrize('content', ['{', '[]', '\ud800'.encode('utf-8', 'surrogatepass')])
def test_a_damaged_description_is_named(pipeline: Path, content: str | bytes) -> None:
    data = content if isinstance(content, bytes) else content.encode()
    (pipeline / 'model_index.json').write_bytes(data)
    with pytest.raises(ModelFileError, match=r'model_index\.json'):
        check_files('sd', SD, pipeline)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    index = {'weight_map': {'a': 'model-1.safetensors', 'b': 'model-2.safetensors'}}
    (tmp_path / 'model.safetensors.index.json').write_text(json.dumps(index))
    (tmp_path / 'model-1.safetensors').write_bytes(safetensors(10))
    with pytest.raises(ModelFileError, match=r'model-2\.safetensors'):
        check_files('big', entry(), tmp_path)


def test_files_that_the_entry_names_must_be_there(tmp_path: Path) -> None:
    (tmp_path / 'other.pt').touch()
    with pytest.raises(ModelFileError, match=r"'seem' finds no seem\.pt"):
        check_files('seem', entry(files=['seem.pt', '*.json']), tmp_path)
    with pytest.raises(ModelFileError, match='are not there: put it there'):
        check_files('seem', entry(), tmp_path / 'nothing')


def test_what_was_fetched_is_compared_with_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / 'a.pt'
    path.write_bytes(b'abc')
    record = {'files': [{'name': 'a.pt', 'size': 3, 'sha256': digest(path)}]}
    (tmp_path / RECORD).write_text(json.dumps(record))
    check_files('a', entry(), path, deep=True)
    path.write_bytes(b'abd')
    check_files('a', entry(), path)  # of the right size; only a deep look reads it
    with pytest.raises(ModelFileError, match=r'a\.pt is not the file that was fetched'):
        check_files('a', entry(), path, deep=True)
    path.write_bytes(b'ab')
    with pytest.raises(ModelFileError, match=r'a\.pt is not the file that was fetched'):
        check_files('a', entry(), path)


def test_missing_libraries_name_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    check_extra('x', entry())
    monkeypatch.setitem(weight_files.LIBRARIES, 'experts', ('numpy', 'no_such_library'))
    with pytest.raises(MissingExtraError, match=r'no_such_library.*\[experts\]'):
        check_extra('x', entry(extra='experts'))
