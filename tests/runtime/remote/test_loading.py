"""Models by name, folder or description, in Python and on the command line."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.runtime.remote.server import Server, fails
from unifiedmllm_ros.cli import main
from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.locations import share
from unifiedmllm_ros.perception import Perceiver
from unifiedmllm_ros.runtime.loading import available, description_file, load_model
from unifiedmllm_ros.runtime.remote.description import RemoteDescription, read_description
from unifiedmllm_ros.runtime.remote.model import RemoteModel


def write(path, **fields):
    path.write_text(json.dumps({'kind': 'remote', **fields}))
    return path


def test_the_example_is_valid_and_known_by_name():
    path = share('config/models/remote-example.yaml')
    described = read_description(path)
    assert described.representation == 'qwen3-vl'
    assert description_file('remote-example.yaml') == path
    assert ('remote-example.yaml', 'remote') in available()
    # Presets of models to train lie beside it.
    assert [name for name, kind in available() if kind == 'remote'] == ['remote-example.yaml']
    # What it shows as defaults are the defaults.
    shown = yaml.safe_load(path.read_text())
    own = {'kind', 'url', 'representation', 'fallback'}
    fields = RemoteDescription.model_fields
    assert all(fields[name].default == shown[name] for name in shown.keys() - own)


def test_a_perceiver_of_a_description(tmp_path):
    with Server() as server:
        path = write(tmp_path / 'mine.json', url=server.url)
        perceiver = Perceiver.load(str(path))
        assert isinstance(perceiver.model, RemoteModel)
        assert server.get_headers == []


@pytest.mark.parametrize(
    ('fields', 'says'),
    [
        ({}, 'url'),
        ({'url': 'ftp://host'}, 'http://host'),
        ({'url': 'http://me:secret@host/v1'}, 'api_key_env'),
        ({'url': 'http://host:99999/v1'}, 'url'),
        ({'url': 'http://host/v1', 'representation': 'llava'}, 'qwen3-vl'),
        ({'url': 'http://host/v1', 'api_key_env': 'A', 'api_key_file': 'b'}, 'not both'),
        ({'url': 'http://host/v1', 'fallback': 'other.yaml'}, 'of this machine'),
        ({'url': 'http://host/v1', 'colour': 'red'}, 'colour'),
    ],
)
def test_descriptions_that_do_not_hold_up(tmp_path, fields, says):
    path = write(tmp_path / 'bad.json', **fields)
    with pytest.raises(ConfigError, match=says):
        load_model(str(path))


def test_files_that_are_none(tmp_path):
    with pytest.raises(ConfigError, match='cannot be read'):
        load_model(str(tmp_path / 'missing.yaml'))
    (tmp_path / 'text.yaml').write_text('just text')
    with pytest.raises(ConfigError, match='no model description'):
        load_model(str(tmp_path / 'text.yaml'))


def test_models_list(capsys):
    assert main(['models', 'list']) == 0
    printed = capsys.readouterr().out
    assert 'remote-example.yaml' in printed
    assert 'florence2' in printed


def test_models_check(tmp_path, capsys):
    with Server(models=('big-vlm',)) as server:
        path = write(tmp_path / 'mine.json', url=server.url, representation='florence2')
        assert main(['models', 'check', str(path)]) == 0
        assert 'big-vlm' in capsys.readouterr().out
        server.get_status = 401
        assert main(['models', 'check', str(path)]) == 1
        assert 'API key' in capsys.readouterr().err


def test_models_check_names_a_missing_model(tmp_path, capsys):
    with Server(fails(500), models=('a', 'b')) as server:
        path = write(tmp_path / 'mine.json', url=server.url, model='c')
        assert main(['models', 'check', str(path)]) == 1
    assert "no model 'c'" in capsys.readouterr().err
