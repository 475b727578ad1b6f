"""An adapter that lies beside its base: whether it belongs to these weights.

A folder of a whole model may hold a PEFT adapter too; `transformers` then attaches it. `base.json`
has the hash of the weights that the adapter was learnt on: on others it would spoil every answer.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from unifiedmllm_ros.errors import MissingExtraError, ModelFileError

CONFIG = 'config.json'
WEIGHTS = 'model.safetensors'
ADAPTER_CONFIG = 'adapter_config.json'
ADAPTER_WEIGHTS = 'adapter_model.safetensors'
BASE = 'base.json'


def holds_both(folder: Path) -> bool:
    """Whether a whole model and an adapter lie in the folder."""
    return (folder / CONFIG).is_file() and (folder / ADAPTER_CONFIG).is_file()


def check(folder: Path) -> None:
    """Make PEFT know LoRAMoE, and see that the adapter belongs to the weights beside it.

    Raises ModelFileError where it does not or nothing says so, MissingExtraError without PEFT,
    because the base alone would answer in its place.
    """
    try:
        from unifiedmllm_ros.model import loramoe  # noqa: F401 PEFT then knows the method
    except ModuleNotFoundError as error:
        raise MissingExtraError.naming(error.name or 'peft', 'train') from error
    try:
        wanted = json.loads((folder / BASE).read_bytes())['sha256']
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(
            f'{folder / BASE}: says not what the adapter belongs to: {error}'
        ) from error
    if not (folder / WEIGHTS).is_file() or wanted != digest(folder / WEIGHTS):
        raise ModelFileError(
            f'{folder}: {WEIGHTS} has changed since training of the adapter beside it: train '
            f'stage 3 again, or remove {ADAPTER_CONFIG}'
        )


def remove(folder: Path) -> None:
    """Remove an adapter from a folder whose base is written anew."""
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS, BASE):
        (folder / name).unlink(missing_ok=True)


def digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open('rb') as data:
        return hashlib.file_digest(data, 'sha256').hexdigest()
