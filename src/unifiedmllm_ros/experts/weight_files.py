"""Whether weights are all there and of the right kind, told from their files alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from unifiedmllm_ros.errors import MissingExtraError, ModelFileError
from unifiedmllm_ros.experts.configuration import ExpertEntry

RECORD = '.unifiedmllm.json'
"""What was fetched, beside it: repository, commit, and the size and SHA-256 of each file."""

LIBRARIES = {
    'experts': ('torch', 'transformers', 'diffusers', 'safetensors'),
    'train': ('torch', 'transformers', 'safetensors'),
}
"""The libraries that an extra brings, as they are imported."""


def check_extra(name: str, entry: ExpertEntry) -> None:
    """Raise MissingExtraError where a library of the expert's extra is not installed."""
    for library in LIBRARIES.get(entry.extra, ()):
        if find_spec(library) is None:
            raise MissingExtraError.naming(library, entry.extra)


def check_files(name: str, entry: ExpertEntry, weights: Path, *, deep: bool = False) -> None:
    """Raise ModelFileError where weights are missing, cut short, or of another kind.

    deep: also compute the SHA-256 of files whose right one is known, which reads all of them.
    """
    if not weights.exists():
        raise ModelFileError(
            f'weights {weights} of expert {name!r} are not there: {_remedy(name, entry)}'
        )
    folder = weights if weights.is_dir() else weights.parent
    named = [file for file in entry.files if not set(file) & set('*?[')]
    for file in named:
        if not (folder / file).is_file():
            raise ModelFileError(
                f'expert {name!r} finds no {file} in {folder}: {_remedy(name, entry)}'
            )
    _check_record(name, entry, folder, deep)
    if weights.is_dir():
        _check_kind(name, entry, weights)
        _check_parts(name, entry, weights)
    for path in sorted(weights.rglob('*.safetensors')) if weights.is_dir() else [weights]:
        if path.suffix == '.safetensors':
            _check_safetensors(name, entry, path)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def _check_record(name: str, entry: ExpertEntry, folder: Path, deep: bool) -> None:
    for file in _json(folder / RECORD).get('files', ()) if (folder / RECORD).is_file() else ():
        path = folder / file['name']
        if entry.files and not any(fnmatch(file['name'], one) for one in entry.files):
            continue  # of another expert that shares the folder
        if not path.is_file():
            raise ModelFileError(
                f'expert {name!r} finds no {file["name"]} in {folder}, which was fetched there: '
                f'{_remedy(name, entry)}'
            )
        if path.stat().st_size != file['size'] or (
            deep and file['sha256'] and digest(path) != file['sha256']
        ):
            raise ModelFileError(
                f'{path} is not the file that was fetched (size or SHA-256): {_remedy(name, entry)}'
            )


def _check_kind(name: str, entry: ExpertEntry, folder: Path) -> None:
    if not entry.holds:
        return
    found: list[str] = []
    for file in ('model_index.json', 'config.json'):
        if (folder / file).is_file():
            config = _json(folder / file)
            found += [
                str(value)
                for value in (
                    config.get('_class_name'),
                    config.get('model_type'),
                    *(config.get('architectures') or ()),
                )
                if value
            ]
    if not set(found) & set(entry.holds):
        raise ModelFileError(
            f'{folder} holds {", ".join(found) or "no model"} and expert {name!r} needs '
            f'{" or ".join(entry.holds)}: {_remedy(name, entry)}'
        )


def _check_parts(name: str, entry: ExpertEntry, folder: Path) -> None:
    """Each part that a pipeline names has its folder, each list of shards its files."""
    index = folder / 'model_index.json'
    parts = _json(index) if index.is_file() else {}
    wanted: list[Path] = [
        folder / part
        for part, value in parts.items()
        if not part.startswith('_') and isinstance(value, list) and all(value)
    ]
    for listing in folder.rglob('*.index.json'):
        weight_map = _json(listing).get('weight_map')
        wanted += [listing.parent / shard for shard in _shards(weight_map)]
    for path in wanted:
        if not path.resolve().is_relative_to(folder.resolve()) or not path.exists():
            raise ModelFileError(
                f'expert {name!r} finds no {path.relative_to(folder)} in {folder}: '
                f'{_remedy(name, entry)}'
            )


def _shards(weight_map: Any) -> Iterable[str]:
    return (
        sorted({str(file) for file in weight_map.values()}) if isinstance(weight_map, dict) else ()
    )


def _check_safetensors(name: str, entry: ExpertEntry, path: Path) -> None:
    """A file of this format says at its beginning how long it is."""
    size = path.stat().st_size
    try:
        with path.open('rb') as file:
            length = int.from_bytes(file.read(8), 'little')
            if length > min(size, 2**27):
                raise ValueError('its header is longer than the file')
            header = json.loads(file.read(length))
        ends = [one['data_offsets'][1] for key, one in header.items() if key != '__metadata__']
        whole = 8 + length + max(ends, default=0) == size
        reason = f'it has {size} bytes, not those that it announces'
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        whole, reason = False, str(error)
    if not whole:
        raise ModelFileError(
            f'{path} is not a whole safetensors file ({reason}): {_remedy(name, entry)}'
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise ModelFileError(f'{path} cannot be read ({error}): fetch it again') from error
    if not isinstance(content, dict):
        raise ModelFileError(f'{path} is no JSON object: fetch it again')
    return content


def _remedy(name: str, entry: ExpertEntry) -> str:
    if entry.repo:
        return f'fetch it with: unifiedmllm experts download {name}'
    return 'put it there, or set another path in experts.yaml'
