"""A model by its name: a folder of ours, or the description of a remote one."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from unifiedmllm_ros.locations import model_folder, share, share_folders
from unifiedmllm_ros.model.protocol import MultimodalModel

DESCRIPTIONS = 'config/models'
SUFFIXES = ('.yaml', '.yml', '.json')


def load_model(model: str, *, threads: int = 2) -> MultimodalModel:
    """Load a model.

    model: a name under models/, a folder, or a description (.yaml, .yml, .json): a path or a file
    name in config/models/. threads: of a model on this machine. Raises ModelFileError, ConfigError.
    """
    path = description_file(model)
    if path is not None:
        return _remote(path, threads)
    from unifiedmllm_ros.runtime.unified import UnifiedModel

    return UnifiedModel.load(model_folder(model), threads=threads)


def description_file(model: str) -> Path | None:
    """Return the file that describes a model, None for the name of a folder."""
    if not model.endswith(SUFFIXES):
        return None
    path = Path(model).expanduser()
    if os.sep in model or path.is_file():
        return path
    return share(f'{DESCRIPTIONS}/{model}')


def available() -> tuple[tuple[str, str], ...]:
    """Return the names that load_model takes without a path, and what each is."""
    found: dict[str, str] = {}
    for share_folder in share_folders():
        for manifest in sorted(share_folder.glob('models/*/onnx/manifest.json')):
            found.setdefault(manifest.parent.parent.name, 'on this machine')
        for path in sorted((share_folder / DESCRIPTIONS).glob('*')):
            if path.suffix in SUFFIXES and _describes_remote(path):
                found.setdefault(path.name, 'remote')
    return tuple(found.items())


def _describes_remote(path: Path) -> bool:
    """Presets of models to train lie in the same folder."""
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    return isinstance(content, dict) and content.get('kind') == 'remote'


def _remote(path: Path, threads: int) -> MultimodalModel:
    from unifiedmllm_ros.runtime.remote.description import read_description
    from unifiedmllm_ros.runtime.remote.fallback import FallbackModel
    from unifiedmllm_ros.runtime.remote.model import RemoteModel

    description = read_description(path)
    remote = RemoteModel(description)
    if not description.fallback:
        return remote
    return FallbackModel(
        remote, load_model(description.fallback, threads=threads), description.recheck
    )
