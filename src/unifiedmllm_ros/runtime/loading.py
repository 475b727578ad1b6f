"""A model by its name: a folder of ours, somebody else's checkpoint, or a description."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from unifiedmllm_ros.locations import model_folder, share, share_folders, user_models
from unifiedmllm_ros.model.protocol import MultimodalModel

DESCRIPTIONS = 'config/models'
SUFFIXES = ('.yaml', '.yml', '.json')
KINDS = {'remote': 'remote', 'local': 'on this machine', 'pair': 'a slow and a fast model'}


def load_model(
    model: str, *, threads: int = 2, backend: str = 'auto', precision: str = 'auto'
) -> MultimodalModel:
    """Load a model.

    model: a name under models/; a folder, of ours or with somebody else's checkpoint; the name of
    a downloaded checkpoint (owner/name); or a description (.yaml, .yml, .json): a path, or a file
    name in the user's models (unifiedmllm models use) or in config/models/.
    threads: of a model on this machine. backend, precision: of a model of ours, see `backends`;
    the others have their own. Raises ModelFileError, ConfigError, OutOfMemoryError,
    MissingExtraError.
    """
    path = description_file(model)
    if path is not None:
        return _described(path, threads)
    if is_published(model):
        from unifiedmllm_ros.runtime.local.description import LocalDescription
        from unifiedmllm_ros.runtime.local.loading import load_local

        return load_local(LocalDescription(kind='local', weights=model), threads)
    from unifiedmllm_ros.runtime.unified import UnifiedModel

    return UnifiedModel.load(
        model_folder(model), threads=threads, backend=backend, precision=precision
    )


def is_published(model: str) -> bool:
    """Whether a name is a folder with somebody else's checkpoint, or one of the hub's."""
    from unifiedmllm_ros.runtime.local.checkpoint import is_checkpoint

    folder = Path(model).expanduser()
    if folder.is_dir():
        return is_checkpoint(folder)
    return model.count('/') == 1 and not model.startswith(('.', '~', '/'))


def description_kind(path: Path) -> str:
    """Return what a file describes: remote, local, pair; '' where it describes no model."""
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return ''
    kind = content.get('kind') if isinstance(content, dict) else None
    return kind if kind in KINDS else ''


def description_file(model: str) -> Path | None:
    """Return the file that describes a model, None for the name of a folder."""
    if not model.endswith(SUFFIXES):
        return None
    path = Path(model).expanduser()
    if os.sep in model or path.is_file():
        return path
    own = user_models() / model
    return own if own.is_file() else share(f'{DESCRIPTIONS}/{model}')


def available() -> tuple[tuple[str, str], ...]:
    """Return the names that load_model takes without a path, and what each is."""
    found: dict[str, str] = {}
    for share_folder in share_folders():
        for manifest in sorted(share_folder.glob('models/*/onnx/manifest.json')):
            found.setdefault(manifest.parent.parent.name, 'on this machine')
        for path in sorted((share_folder / DESCRIPTIONS).glob('*')):
            _add(found, path)
    for path in sorted(user_models().glob('*')):
        _add(found, path)
    return tuple(found.items())


def _add(found: dict[str, str], path: Path) -> None:
    """Presets of models to train lie in the same folder."""
    if path.suffix in SUFFIXES and (kind := description_kind(path)):
        found.setdefault(path.name, KINDS[kind])


def _described(path: Path, threads: int) -> MultimodalModel:
    if description_kind(path) in ('local', 'pair'):
        from unifiedmllm_ros.runtime.local.description import read_local
        from unifiedmllm_ros.runtime.local.loading import load_local

        return load_local(read_local(path), threads)
    return _remote(path, threads)


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
