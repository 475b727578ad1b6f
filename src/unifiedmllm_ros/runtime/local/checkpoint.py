"""A checkpoint on disk: where it is, what it is, and whether all of it is there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unifiedmllm_ros.errors import ConfigError, MissingExtraError, ModelFileError
from unifiedmllm_ros.runtime.local.download import PATTERNS

FAMILY_OF_TYPE = {
    'qwen2_5_vl': 'qwen2.5-vl',
    'qwen3_vl': 'qwen3-vl',
    'qwen3_vl_moe': 'qwen3-vl',
    'qwen3_5': 'qwen3-vl',
    'qwen3_5_moe': 'qwen3-vl',
    'florence2': 'florence2',
    'paligemma': 'paligemma',
    'kosmos-2': 'kosmos2',
    'grounding-dino': 'grounding-dino',
    'mm-grounding-dino': 'grounding-dino',
    'owlv2': 'owlv2',
}
"""Adapter by `model_type` of a configuration."""
OURS = 'unifiedmllm'
_INDEX = 'model.safetensors.index.json'
_SINGLE = 'model.safetensors'
_TOKENIZERS = ('tokenizer.json', 'tokenizer.model', 'vocab.json', 'vocab.txt')
_PICTURES = ('preprocessor_config.json', 'processor_config.json')
_BYTES = {'float64': 8, 'float32': 4, 'float16': 2, 'bfloat16': 2, 'float8_e4m3fn': 1}


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    config: its config.json. files: those with weights. name: for people.
    """

    folder: Path
    config: dict[str, Any]
    files: tuple[Path, ...]
    name: str

    @property
    def family(self) -> str:
        """The adapter's name, '' where the kind of model is not known."""
        return FAMILY_OF_TYPE.get(str(self.config.get('model_type')), '')

    @property
    def quantised(self) -> str:
        """How the weights are quantised already, such as gptq; '' where they are not."""
        found = self.config.get('quantization_config')
        return str(found.get('quant_method', 'unknown')) if isinstance(found, dict) else ''

    @property
    def dtype(self) -> str:
        """In what the weights are stored."""
        found = self.config.get('dtype', self.config.get('torch_dtype'))
        return found if found in _BYTES else 'float32'

    @property
    def parameters(self) -> float:
        """How many parameters there are, from the size of the files; for quantised ones less."""
        return sum(path.stat().st_size for path in self.files) / _BYTES[self.dtype]


def find(weights: str, beside: Path) -> Checkpoint:
    """Return a checkpoint in a folder or in the hub's cache, checked; nothing is downloaded.

    beside: the folder from which a relative one counts. Raises ModelFileError naming what is
    missing and the command that brings it.
    """
    folder = _folder(weights, beside)
    config = _json(folder / 'config.json', weights)
    files = _weights(folder, weights)
    for names in (_TOKENIZERS, _PICTURES):
        if not any((folder / name).is_file() for name in names):
            raise ModelFileError(f'{folder} has no {" or ".join(names)}: {_remedy(weights)}')
    for path in files:
        _check_whole(path, weights)
    return Checkpoint(folder, config, files, _name(weights, folder))


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds somebody else's model rather than graphs of ours."""
    return (folder / 'config.json').is_file() and not (folder / 'onnx').is_dir()


def in_cache(repository: str) -> Path | None:
    """Return the folder of a downloaded repository, None where it was not downloaded."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    except ModuleNotFoundError as error:
        raise MissingExtraError.naming('huggingface_hub', 'vlm') from error
    try:
        # What was not wanted is not missing.
        patterns = list(PATTERNS)
        return Path(snapshot_download(repository, allow_patterns=patterns, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def _folder(weights: str, beside: Path) -> Path:
    place = beside / Path(weights).expanduser()
    if place.is_dir():
        return place
    if weights.count('/') == 1 and not weights.startswith(('.', '~', '/')):
        cached = in_cache(weights)
        if cached is not None:
            return cached
        raise ModelFileError(f'{weights} is not on this machine: {_remedy(weights)}')
    raise ModelFileError(f'there is no folder {place} with a checkpoint: check weights')


def _remedy(weights: str) -> str:
    name = weights if weights.count('/') == 1 and weights[0] not in './~' else 'OWNER/NAME'
    return f'get it with: unifiedmllm models download {name}'


def _name(weights: str, folder: Path) -> str:
    return weights if weights.count('/') == 1 and weights[0] not in './~' else folder.name


def _json(path: Path, weights: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise ModelFileError(f'{path} is missing: {_remedy(weights)}') from error
    except (OSError, ValueError) as error:
        raise ModelFileError(f'{path} is damaged ({error}): {_remedy(weights)}') from error
    if not isinstance(content, dict):
        raise ModelFileError(f'{path} is damaged (no JSON object): {_remedy(weights)}')
    return content


def _weights(folder: Path, weights: str) -> tuple[Path, ...]:
    if (folder / _SINGLE).is_file():
        return (folder / _SINGLE,)
    if not (folder / _INDEX).is_file():
        if any(folder.glob('*.bin')):
            raise ModelFileError(
                f'{folder} has weights as pickle (.bin) only, which can run programs when they '
                'are read: convert them to safetensors'
            )
        raise ModelFileError(f'{folder} has no {_SINGLE}: {_remedy(weights)}')
    shards = _json(folder / _INDEX, weights).get('weight_map')
    if not isinstance(shards, dict) or not all(isinstance(one, str) for one in shards.values()):
        raise ModelFileError(f'{folder / _INDEX} names no files: {_remedy(weights)}')
    names = sorted(set(shards.values()))
    # An index comes from outside: it names files of its own folder, nothing else.
    strange = [name for name in names if Path(name).name != name]
    if strange:
        raise ModelFileError(f'{folder / _INDEX} names {strange[0]!r}, which is no file beside it')
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        listed = ', '.join(missing[:3]) + (' ...' if len(missing) > 3 else '')
        raise ModelFileError(
            f'{folder} lacks {len(missing)} of {len(names)} files with weights ({listed}): '
            f'{_remedy(weights)} (it goes on where it stopped)'
        )
    return tuple(folder / name for name in names)


def _check_whole(path: Path, weights: str) -> None:
    """Compare the size of a safetensors file with what its header promises."""
    try:
        with path.open('rb') as file:
            length = int.from_bytes(file.read(8), 'little')
            if length > 100_000_000:
                raise ValueError('its header is too long')
            header = json.loads(file.read(length))
        end = max(
            (entry['data_offsets'][1] for name, entry in header.items() if name != '__metadata__'),
            default=0,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelFileError(f'{path} is no safetensors file: {_remedy(weights)}') from error
    expected, found = 8 + length + end, path.stat().st_size
    if found < expected:
        raise ModelFileError(
            f'{path} is cut off ({found} of {expected} bytes): {_remedy(weights)} '
            '(it goes on where it stopped)'
        )


def check_family(checkpoint: Checkpoint, chosen: str) -> str:
    """Return the family to use: the chosen one, or that of the checkpoint. Raises ConfigError."""
    if checkpoint.config.get('model_type') == OURS:
        raise ConfigError(
            f'{checkpoint.name} is a UnifiedMLLM checkpoint: export it first (unifiedmllm export), '
            'then name its folder as model'
        )
    family = chosen or checkpoint.family
    if not family:
        kind = checkpoint.config.get('model_type')
        raise ConfigError(
            f'{checkpoint.name} is a {kind!r}, for which no adapter is known: give family '
            '(qwen3-vl where it writes bbox_2d from 0 to 1000, native with constrained: true for '
            'other chat models)'
        )
    if checkpoint.family and chosen and checkpoint.family != chosen and chosen != 'native':
        raise ConfigError(
            f'{checkpoint.name} is of the family {checkpoint.family}, not {chosen}: leave family '
            'empty'
        )
    return family
