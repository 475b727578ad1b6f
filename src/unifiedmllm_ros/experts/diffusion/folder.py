"""Folders of weights as diffusers writes them: what they hold, told without loading anything."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unifiedmllm_ros.errors import ModelFileError

_SUFFIXES = ('.safetensors', '.bin')
_SHARD = re.compile(r'-\d+-of-\d+$')


@dataclass(frozen=True)
class Needs:
    """What an expert needs of its folder.

    pipeline: class of diffusers. repository: where such weights are published.
    others: further classes that the folder may name. channels: inputs of the U-Net, None for any.
    gated: whether the U-Net must have GLIGEN's gated attention. half: the numbers it runs in on a
    GPU where nothing is said.
    """

    pipeline: str
    repository: str
    others: tuple[str, ...] = ()
    channels: int | None = None
    gated: bool = False
    half: str = 'float16'


def check_folder(
    name: str, folder: Path, kind: str, automatic: Sequence[str], needs: Needs
) -> None:
    """Check that a folder holds what the expert `name` needs.

    kind: the class it will be loaded with; one of `automatic` takes any folder.
    Raises ModelFileError naming the remedy.
    """
    said = _index(name, folder, needs).get('_class_name')
    if not isinstance(said, str):
        raise ModelFileError(
            f'{folder} brings code of its own for its pipeline ({said}), which is not run: set the '
            f'folder of {needs.repository} in experts.yaml'
        )
    if kind not in automatic and said not in (kind, *needs.others):
        raise ModelFileError(
            f'{folder} holds a {said} and expert {name!r} needs a {kind}: set the folder of '
            f'{needs.repository} in experts.yaml, or pipeline under its defaults to {said}'
        )
    for part in parts_of(name, folder):
        if not (folder / part).is_dir():
            raise ModelFileError(
                f'expert {name!r} finds no {part} in {folder}, which model_index.json names: '
                f'fetch {needs.repository} again'
            )
    if needs.channels is not None or needs.gated:
        _check_unet(name, folder, needs)


def parts_of(name: str, folder: Path) -> dict[str, tuple[str, str]]:
    """Return library and class of each part that a folder says it has."""
    parts: dict[str, tuple[str, str]] = {}
    for part, value in _index(name, folder).items():
        if part.startswith('_') or not (isinstance(value, list) and len(value) == 2):
            continue
        if not part.isidentifier():
            raise ModelFileError(
                f'{folder / "model_index.json"} names a part {part!r}, which is no name of a part'
            )
        if all(isinstance(one, str) for one in value):
            parts[part] = (value[0], value[1])
    return parts


def known_variant(folder: Path, wanted: str) -> str | None:
    """Return the variant of weights to read from a part's folder, None for plain ones.

    Parts without a file of the wanted variant are read plain. Raises ModelFileError where there
    are files of other variants only.
    """
    found = {_variant(path) for path in _weights(folder)}
    if wanted in found or not found:
        return wanted or None
    if '' in found:
        return None
    raise ModelFileError(
        f'{folder} holds weights of the variant {", ".join(sorted(found))} only and not of '
        f'{wanted or "the plain one"}: set variant under defaults in experts.yaml to one of them'
    )


def fingerprint_of(folder: Path, denoisers: Sequence[str], variant: str) -> str:
    """Return name and SHA-256 of the denoiser's weights, as provenance shows them."""
    for part in denoisers:
        files = _chosen(folder / part, variant)
        if files:
            digest = hashlib.sha256()
            for path in files:
                with path.open('rb') as file:
                    while block := file.read(2**20):
                        digest.update(block)
            return f'{folder.name}/{part}/{files[0].name} sha256:{digest.hexdigest()[:16]}'
    return folder.name


def _chosen(folder: Path, wanted: str) -> list[Path]:
    """The files that are read: of the variant if there, safetensors rather than pickles."""
    variant = known_variant(folder, wanted) or ''
    files = [path for path in _weights(folder) if _variant(path) == variant]
    safe = [path for path in files if path.suffix == '.safetensors']
    return safe or files


def _weights(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob('*') if path.suffix in _SUFFIXES)


def _variant(path: Path) -> str:
    """`fp16` of model.fp16.bin and of model.fp16-00001-of-00002.bin, '' of model.bin."""
    return _SHARD.sub('', path.stem).partition('.')[2]


def _index(name: str, folder: Path, needs: Needs | None = None) -> dict[str, Any]:
    where = f': put all files of {needs.repository} there' if needs else ''
    return _json(name, folder / 'model_index.json', where)


def _check_unet(name: str, folder: Path, needs: Needs) -> None:
    config = _json(name, folder / 'unet' / 'config.json', f': fetch {needs.repository} again')
    channels = config.get('in_channels')
    if needs.channels is not None and channels != needs.channels:
        raise ModelFileError(
            f'the U-Net in {folder} takes {channels} channels and expert {name!r} needs one of '
            f'{needs.channels}: it is another model, set the folder of {needs.repository}'
        )
    gated = config.get('attention_type') == 'gated' or config.get('use_gated_attention') is True
    if needs.gated and not gated:
        raise ModelFileError(
            f'the U-Net in {folder} has no gated attention, so boxes would not matter to it, and '
            f'expert {name!r} needs that: set the folder of {needs.repository}'
        )


def _json(name: str, path: Path, remedy: str) -> dict[str, Any]:
    if not path.is_file():
        raise ModelFileError(f'expert {name!r} finds no {path.name} in {path.parent}{remedy}')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise ModelFileError(f'{path} cannot be read as JSON: {error}{remedy}') from error
    if not isinstance(content, dict):
        raise ModelFileError(f'{path} is no JSON object{remedy}')
    return content
