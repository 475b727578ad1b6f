"""What a stage leaves in a folder, and how the next one or a test loads it.

A whole model is saved as Hugging Face models are. Of a model with an adapter (LoRA, LoRAMoE) the
adapter alone is saved, and beside it `base.json`: how its base is made, and the hash of its file.
Laid into the folder of its base, both are one model again, for `from_pretrained` too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from unifiedmllm_ros.errors import ModelFileError
from unifiedmllm_ros.locations import model_folder
from unifiedmllm_ros.model import embedded_adapter, loramoe
from unifiedmllm_ros.model.configuration import UnifiedMLLMConfig
from unifiedmllm_ros.model.embedded_adapter import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    BASE,
    CONFIG,
    WEIGHTS,
)
from unifiedmllm_ros.model.modeling import UnifiedMLLMForConditionalGeneration
from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor
from unifiedmllm_ros.training.beginning import PACKAGE, Beginning, begin, package_file, tied
from unifiedmllm_ros.training.settings import ModelSettings


class Base(BaseModel):
    """The model below an adapter: how it is made, and the SHA-256 of its weights."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    model: ModelSettings
    sha256: str = ''

    @classmethod
    def of(cls, settings: ModelSettings, adapted: bool = False) -> Base:
        """Describe what a stage begins with; folders are named from the root.

        adapted: it is an adapter that goes on, so that its base stays what it is.
        """
        if settings.start:
            folder = model_folder(settings.start)
            if adapted and not embedded_adapter.holds_both(folder):
                return _read_base(folder)
            update: dict[str, Any] = {'adapter': settings.adapter and not adapted}
            if '/' in settings.start or Path(settings.start).is_dir():
                update['start'] = str(folder.resolve())
            settings = settings.model_copy(update=update)
        return cls(model=settings, sha256=_digest(settings))

    def write(self, folder: Path) -> None:
        """Write base.json."""
        (folder / BASE).write_text(self.model_dump_json(indent=2) + '\n', encoding='utf-8')


def load_to_run(folder: Path) -> Beginning:
    """As `load_result`, for answering: rows of new tokens stand in their tables."""
    from peft.tuners.trainable_tokens import TrainableTokensLayer

    begun = load_result(folder)
    for module in begun.model.eval().modules():
        if isinstance(module, TrainableTokensLayer):
            module.merge()
    return begun


def load_result(folder: Path, adapter: bool = True) -> Beginning:
    """A model of ours: whole, or base and adapter. A LoRA adapter is merged into the base.

    adapter: false for the model alone, where an adapter lies beside it. Raises ModelFileError where
    a file is missing or damaged, or is of another architecture.
    """
    if embedded_adapter.holds_both(folder):
        return _adapted(folder) if adapter else _whole(folder)
    if (folder / ADAPTER_CONFIG).is_file():
        return _adapted(folder)
    if not (folder / CONFIG).is_file():
        raise ModelFileError(f'{folder}: holds no {CONFIG}: give the folder of a model')
    return _whole(folder)


def _whole(folder: Path) -> Beginning:
    processor = UnifiedMLLMProcessor.from_pretrained(folder)
    try:
        # By its name alone `transformers` would attach an adapter that lies beside it.
        named: dict[str, Any] = {}
        if embedded_adapter.holds_both(folder):
            named['config'] = UnifiedMLLMConfig.from_pretrained(folder)
            named['state_dict'] = load_file(folder / WEIGHTS)
        model, info = UnifiedMLLMForConditionalGeneration.from_pretrained(
            None if named else folder, output_loading_info=True, dtype=torch.float32, **named
        )
    except (OSError, ValueError, RuntimeError, SafetensorError, KeyError) as error:
        raise ModelFileError(f'{folder}: {" ".join(str(error).split())[:400]}') from error
    lacking = sorted(info['missing_keys']) + sorted(map(str, info['mismatched_keys']))
    if lacking or info['unexpected_keys']:
        some = ', '.join((lacking + sorted(info['unexpected_keys']))[:4])
        raise ModelFileError(f'{folder}: weights do not fit config.json: {some}')
    return Beginning(model, processor)


def _adapted(folder: Path) -> Beginning:
    from peft import PeftModel

    if embedded_adapter.holds_both(folder):
        embedded_adapter.check(folder)
        begun = _whole(folder)
    else:
        base = _read_base(folder)
        begun = begin(base.model)
        if base.sha256 and base.sha256 != _digest(base.model):
            named = base.model.start or base.model.language_model
            raise ModelFileError(f'{folder}: its base {named} has changed since training')
    tied(begun.model)
    try:
        model: Any = PeftModel.from_pretrained(begun.model, folder, is_trainable=True)
    except (OSError, ValueError, RuntimeError, SafetensorError, KeyError) as error:
        raise ModelFileError(f'{folder}: {" ".join(str(error).split())[:400]}') from error
    method = str(getattr(model.peft_config['default'].peft_type, 'value', ''))
    if method == loramoe.LORAMOE.value:
        return Beginning(model, begun.processor, begun.new_ids, adapter=True)
    return Beginning(model.merge_and_unload(), begun.processor, begun.new_ids)


def _read_base(folder: Path) -> Base:
    file = folder / BASE
    try:
        return Base.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise ModelFileError(f'{file}: says not what the adapter belongs to: {error}') from error


def _digest(settings: ModelSettings) -> str:
    """SHA-256 of the weights that the base is made of, '' for those of the hub."""
    file: Path | None = None
    if settings.start:
        folder = model_folder(settings.start)
        file = next(
            (folder / n for n in (WEIGHTS, ADAPTER_WEIGHTS) if (folder / n).is_file()), None
        )
    elif settings.language_model.startswith(PACKAGE):
        file = package_file(settings.language_model)
    elif (Path(settings.language_model) / WEIGHTS).is_file():
        file = Path(settings.language_model) / WEIGHTS
    return '' if file is None else embedded_adapter.digest(file)


def check_architecture(checkpoint: Path, model: Any) -> None:
    """That a checkpoint's tensors are those of the model. Raises ModelFileError naming some."""
    adapter = checkpoint / ADAPTER_WEIGHTS
    file = adapter if adapter.is_file() else checkpoint / WEIGHTS
    if not file.is_file():
        return  # sharded over processes: its loader checks
    try:
        with safe_open(file, 'pt') as tensors:
            names = tensors.keys()
            found = {name: tuple(tensors.get_slice(name).get_shape()) for name in names}
    except (OSError, SafetensorError) as error:
        raise ModelFileError(f'{file}: is damaged ({error}); resume from an older one') from error
    wanted = {name: tuple(tensor.shape) for name, tensor in _tensors(model).items()}
    if (file == adapter) != hasattr(model, 'peft_config'):
        raise ModelFileError(f'{checkpoint}: is not of this method (adapter or whole model)')
    wrong = [n for n, shape in found.items() if wanted.get(n) != shape]
    lost = [n for n in wanted.keys() - found.keys() if not n.endswith('lm_head.weight')]
    if wrong or lost:
        names = ', '.join(sorted(wrong + lost)[:4])
        raise ModelFileError(
            f'{checkpoint}: is a checkpoint of another architecture ({names}); start with the '
            'configuration that made it, or give another --out'
        )


def _tensors(model: Any) -> dict[str, Any]:
    if not hasattr(model, 'peft_config'):
        return dict(model.state_dict())
    from peft import get_peft_model_state_dict

    return dict(get_peft_model_state_dict(model))


def write_summary(folder: Path, summary: dict[str, Any]) -> Path:
    """Write summary.json; returns its path."""
    file = folder / 'summary.json'
    file.write_text(json.dumps(summary, indent=2) + '\n', encoding='utf-8')
    return file
