"""Checkpoints on bad days: each a clear error that names the remedy."""

from __future__ import annotations

import json
import shutil

import numpy as np
import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from unifiedmllm_ros.cli import main
from unifiedmllm_ros.errors import (
    ConfigError,
    MissingExtraError,
    ModelFileError,
    OutOfMemoryError,
)
from unifiedmllm_ros.locations import share
from unifiedmllm_ros.model.protocol import Conversation
from unifiedmllm_ros.perception import Perceiver
from unifiedmllm_ros.runtime.catalogue import GIB
from unifiedmllm_ros.runtime.loading import available, load_model
from unifiedmllm_ros.runtime.local import weights as weights_module
from unifiedmllm_ros.runtime.local.checkpoint import find
from unifiedmllm_ros.runtime.local.description import LocalDescription, read_local
from unifiedmllm_ros.runtime.local.model import LocalModel
from unifiedmllm_ros.runtime.local.weights import smaller

IMAGE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)


@pytest.fixture
def copy(checkpoint, tmp_path):
    """A checkpoint that may be broken."""

    def make(family):
        return shutil.copytree(checkpoint(family), tmp_path / family)

    return make


def load(folder, **fields):
    description = LocalDescription.model_validate(
        {'kind': 'local', 'weights': str(folder), **fields}
    )
    return LocalModel.load(description, threads=1)


def change(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize('name', ['local-example.yaml', 'pair-example.yaml'])
def test_the_examples_are_valid_and_show_the_defaults(name):
    path = share(f'config/models/{name}')
    described = read_local(path)
    own = {'kind', 'weights', 'slow', 'fast', 'refresh'}
    shown = yaml.safe_load(path.read_text())
    fields = type(described).model_fields
    assert all(fields[field].default == shown[field] for field in shown.keys() - own)
    assert name in dict(available())


def test_a_folder_is_a_model(checkpoint):
    perceiver = Perceiver.load(str(checkpoint('qwen3-vl')))
    perceiver.model.max_tokens = 3
    perceiver.set_image(IMAGE)
    assert perceiver.ask('find it').model.backend.endswith('qwen3-vl')


@pytest.mark.parametrize(
    ('name', 'says'),
    [
        ('model.safetensors', 'has no model.safetensors'),
        ('tokenizer.json', 'tokenizer'),
        ('preprocessor_config.json', 'preprocessor_config.json'),
    ],
)
def test_files_that_are_missing(copy, name, says):
    folder = copy('qwen3-vl')
    (folder / name).unlink()
    with pytest.raises(ModelFileError, match=says) as caught:
        load(folder)
    assert 'models download' in str(caught.value)


def test_a_download_that_stopped(copy):
    folder = copy('qwen3-vl')
    whole = (folder / 'model.safetensors').read_bytes()
    (folder / 'model.safetensors').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFileError, match='cut off'):
        load(folder)
    (folder / 'model.safetensors').write_bytes(b'<html>not found</html>')
    with pytest.raises(ModelFileError, match='no safetensors file'):
        load(folder)


def test_shards_that_are_missing_or_elsewhere(copy):
    folder = copy('qwen3-vl')
    (folder / 'model.safetensors').rename(folder / 'model-00001-of-00002.safetensors')
    shards = {'a': 'model-00001-of-00002.safetensors', 'b': 'model-00002-of-00002.safetensors'}
    index = folder / 'model.safetensors.index.json'
    index.write_text(json.dumps({'weight_map': shards}))
    with pytest.raises(ModelFileError, match=r'1 of 2 .*model-00002'):
        load(folder)
    index.write_text(json.dumps({'weight_map': {'a': '../../elsewhere.safetensors'}}))
    with pytest.raises(ModelFileError, match='no file beside it'):
        load(folder)


def test_pickles_are_not_read(copy):
    folder = copy('qwen3-vl')
    (folder / 'model.safetensors').rename(folder / 'pytorch_model.bin')
    with pytest.raises(ModelFileError, match='pickle'):
        load(folder)


def test_tensors_that_are_missing_or_of_another_size(copy):
    folder = copy('qwen3-vl')
    path = folder / 'model.safetensors'
    tensors = load_file(path)
    name = next(key for key in tensors if key.endswith('q_proj.weight'))
    save_file({k: v for k, v in tensors.items() if k != name}, path, {'format': 'pt'})
    with pytest.raises(ModelFileError, match='lacks 1 tensors'):
        load(folder)
    save_file({**tensors, name: torch.zeros(3, 3)}, path, {'format': 'pt'})
    with pytest.raises(ModelFileError, match=r'size|shape'):
        load(folder)


def test_a_config_that_is_damaged(copy):
    folder = copy('qwen3-vl')
    (folder / 'config.json').write_text('{"model_type": "qwen3')
    with pytest.raises(ModelFileError, match='damaged'):
        load(folder)


def test_kinds_of_models_that_are_not_known(copy):
    folder = copy('qwen3-vl')
    change(folder / 'config.json', model_type='brand_new_vlm')
    with pytest.raises(ConfigError, match='give family'):
        load(folder)
    change(folder / 'config.json', model_type='unifiedmllm')
    with pytest.raises(ConfigError, match='unifiedmllm export'):
        load(folder)


def test_a_family_that_is_not_the_checkpoints(checkpoint):
    with pytest.raises(ConfigError, match='of the family qwen3-vl, not florence2'):
        load(checkpoint('qwen3-vl'), family='florence2')


def test_what_was_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv('HF_HUB_CACHE', str(tmp_path))
    with pytest.raises(ModelFileError, match='models download Qwen/Qwen3-VL-2B-Instruct'):
        load_model('Qwen/Qwen3-VL-2B-Instruct')
    with pytest.raises(ModelFileError, match='there is no folder'):
        load(tmp_path / 'nothing')


def test_too_little_memory_is_said_before_anything_is_read(checkpoint, monkeypatch):
    folder = checkpoint('qwen3-vl')
    size = sum(path.stat().st_size for path in folder.glob('*.safetensors'))
    # As much as 8 bits take, beside what stays free.
    free = int(weights_module._SPARE * GIB + size / 3.5)
    real = psutil.virtual_memory()
    monkeypatch.setattr(psutil, 'virtual_memory', lambda: real._replace(available=free))
    monkeypatch.setattr(weights_module, '_read', lambda *a: pytest.fail('it was read'))
    with pytest.raises(OutOfMemoryError, match='bitsandbytes-8bit takes') as caught:
        load(folder)
    assert 'float32 takes' in str(caught.value)


@pytest.mark.parametrize(
    'error',
    [
        torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 MiB'),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_memory_that_runs_out_while_loading(checkpoint, monkeypatch, error):
    def fail(*args):
        raise error

    monkeypatch.setattr(weights_module, '_read', fail)
    with pytest.raises(OutOfMemoryError, match='GiB of cpu are free'):
        load(checkpoint('qwen3-vl'))


def test_memory_that_runs_out_while_answering(local, monkeypatch):
    model = local('qwen3-vl')

    def fail(**inputs):
        raise torch.OutOfMemoryError('CUDA out of memory')

    monkeypatch.setattr(model._network.module, 'generate', fail)
    with pytest.raises(OutOfMemoryError, match='max_pixels'):
        list(model.stream(model.encode(IMAGE), Conversation('find it')))
    monkeypatch.undo()
    model.max_tokens = 2
    assert list(model.stream(model.encode(IMAGE), Conversation('find it')))


@pytest.mark.parametrize(
    ('room', 'says'),
    [(2.1, 'bfloat16'), (1.1, '8bit'), (0.6, '4bit'), (0.1, 'a smaller model')],
)
def test_the_smaller_quantisation_is_proposed(checkpoint, room, says):
    found = find(str(checkpoint('qwen3-vl')), checkpoint('qwen3-vl'))
    assert says in smaller(found, found.parameters * room)


@pytest.mark.parametrize('method', ['gptq', 'awq', 'compressed-tensors'])
def test_quantised_checkpoints_name_the_library_they_need(copy, method):
    folder = copy('qwen3-vl')
    change(folder / 'config.json', quantization_config={'quant_method': method, 'bits': 4})
    with pytest.raises(MissingExtraError, match='pip install'):
        load(folder)
    with pytest.raises(ConfigError, match='quantised already'):
        load(folder, quantisation='bitsandbytes-4bit')


@pytest.mark.parametrize('name', ['bitsandbytes-4bit', 'torchao-int8'])
def test_quantisation_without_its_library(checkpoint, monkeypatch, name):
    monkeypatch.setattr('importlib.util.find_spec', lambda library: None)
    with pytest.raises(MissingExtraError, match=name.partition('-')[0]):
        load(checkpoint('qwen3-vl'), quantisation=name)


@pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has a GPU')
def test_a_gpu_that_is_not_there(checkpoint):
    with pytest.raises(ConfigError, match='finds no GPU'):
        load(checkpoint('qwen3-vl'), device='cuda')


@pytest.mark.parametrize(
    ('fields', 'says'),
    [
        ({}, 'weights'),
        ({'weights': 'a', 'dtype': 'int3'}, 'dtype'),
        ({'weights': 'a', 'family': 'llava'}, 'qwen3-vl'),
        ({'weights': 'a', 'device': 'tpu'}, 'device'),
        ({'weights': 'a', 'colour': 'red'}, 'colour'),
    ],
)
def test_descriptions_that_do_not_hold_up(tmp_path, fields, says):
    path = tmp_path / 'bad.json'
    path.write_text(json.dumps({'kind': 'local', **fields}))
    with pytest.raises(ConfigError, match=says):
        load_model(str(path))


def test_a_users_own_description_is_known_by_name(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path))
    folder = tmp_path / 'unifiedmllm' / 'models'
    folder.mkdir(parents=True)
    (folder / 'mine.yaml').write_text(f'kind: local\nweights: {checkpoint("owlv2")}\n')
    assert ('mine.yaml', 'on this machine') in available()
    assert main(['models', 'check', 'mine.yaml']) == 0
    assert 'owlv2' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['torchao-int8', 'bitsandbytes-8bit'])
def test_quantised_while_loading_it_answers(checkpoint, name):
    library = name.partition('-')[0]
    pytest.importorskip(library, reason=f'{library} is not installed: it is in no extra but dev')
    folder = checkpoint('qwen3-vl')
    model = load(folder, quantisation=name, device='cpu')
    assert model.info.precision == name
    model.max_tokens = 6
    image = np.zeros((56, 56, 3), np.uint8)
    assert list(model.stream(model.encode(image), Conversation('find the mug')))
    description = LocalDescription(kind='local', weights=str(folder), quantisation=name)
    module = weights_module.load_network(find(str(folder), folder), description, 'qwen3-vl').module
    parts = [*module.modules(), *(p.data for p in module.parameters())]
    assert any(type(part).__module__.startswith(library) for part in parts)


def test_what_has_no_kernels_on_a_cpu_is_refused(checkpoint):
    with pytest.raises(ConfigError, match='torchao-int8'):
        load(checkpoint('qwen3-vl'), quantisation='torchao-int4', device='cpu')
