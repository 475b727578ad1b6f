"""Where shared files are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.locations import model_folder, share, share_folders


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ROS prefix in which the package is installed, with one file the source tree lacks."""
    folder = tmp_path / 'share' / 'unifiedmllm_ros'
    (folder / 'models' / 'installed-model').mkdir(parents=True)
    (folder / 'config').mkdir()
    (folder / 'config' / 'experts.yaml').touch()
    (folder / 'package.xml').touch()
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'/nowhere:{tmp_path}')
    return folder


def test_the_source_tree_comes_first_then_installed_prefixes(prefix: Path) -> None:
    assert share_folders()[-1] == prefix
    assert share('models/installed-model') == prefix / 'models' / 'installed-model'
    if len(share_folders()) > 1:
        assert share('config/experts.yaml') == share_folders()[0] / 'config' / 'experts.yaml'


def test_what_is_nowhere_is_an_error_that_names_the_places(prefix: Path) -> None:
    with pytest.raises(ConfigError, match=r'nothing\.yaml') as caught:
        share('config/nothing.yaml')
    assert str(prefix) in str(caught.value)


def test_a_model_is_a_path_or_a_name(prefix: Path, tmp_path: Path) -> None:
    assert model_folder('installed-model') == prefix / 'models' / 'installed-model'
    assert model_folder(str(tmp_path / 'mine')) == tmp_path / 'mine'
    with pytest.raises(ConfigError, match='no-such-model'):
        model_folder('no-such-model')
