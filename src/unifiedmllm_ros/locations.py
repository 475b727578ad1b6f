"""Where the files beside the code are: config, models, launch, samples."""

from __future__ import annotations

import os
from pathlib import Path

from unifiedmllm_ros.errors import ConfigError

PACKAGE = 'unifiedmllm_ros'


def share_folders() -> tuple[Path, ...]:
    """Return the folders to look in, first wins: the source tree, then installed ROS prefixes."""
    source = Path(__file__).resolve().parents[2]
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    installed = (Path(prefix) / 'share' / PACKAGE for prefix in prefixes if prefix)
    return tuple(folder for folder in (source, *installed) if (folder / 'package.xml').is_file())


def share(relative: str) -> Path:
    """Return the path of a shared file or folder such as `config/experts.yaml`.

    Raises ConfigError, naming the places, where it is in none of them.
    """
    places = [folder / relative for folder in share_folders()]
    for place in places:
        if place.exists():
            return place
    looked = ', '.join(map(str, places)) or 'no share folder (is the ROS workspace sourced?)'
    raise ConfigError(f'{relative} is not there: looked at {looked}; give its full path instead')


def model_folder(model: str) -> Path:
    """Return the folder of a model: a path, or a name under models/."""
    if os.sep in model or Path(model).is_dir():
        return Path(model).expanduser()
    return share(f'models/{model}')


def user_models() -> Path:
    """Return the folder of the user's own descriptions of models; it need not exist."""
    base = os.environ.get('XDG_CONFIG_HOME', '')
    config = Path(base) if base else Path.home() / '.config'
    return config / 'unifiedmllm' / 'models'
