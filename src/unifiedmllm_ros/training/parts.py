"""What of a model learns in a stage: everything is frozen, then some parts are let go."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.model.loramoe import LoraMoEConfig
from unifiedmllm_ros.training.beginning import Beginning, tied
from unifiedmllm_ros.training.settings import TrainableSettings

ADAPTERS = ('image_tower.projector', 'video_tower', 'audio_tower.projector')
ENCODERS = {'image_encoder': 'image_tower.encoder', 'audio_encoder': 'audio_tower.encoder'}
LANGUAGE = 'language_model'


def let_learn(begun: Beginning, settings: TrainableSettings) -> Any:
    """The model with what learns set to learn; under PEFT where an adapter is asked for.

    Raises ConfigError for a part that the model has not.
    """
    modules = _modules(begun.model, settings)
    method = settings.language_model
    if begun.adapter:
        if method != 'loramoe':
            raise ConfigError(
                f'start is a LoRAMoE adapter, which cannot be merged: language_model {method} '
                'cannot go on from it, loramoe can'
            )
        return _unnamed(begun.model)
    if method in ('lora', 'loramoe') or settings.new_tokens:
        return _adapted(begun, settings, modules)
    begun.model.requires_grad_(False)
    for name in (*modules, *([LANGUAGE] if method == 'full' else [])):
        begun.model.get_submodule(name).requires_grad_(True)
    return begun.model


def _modules(model: Any, settings: TrainableSettings) -> list[str]:
    names = list(ADAPTERS) if 'adapters' in settings.parts else []
    names += [ENCODERS[part] for part in settings.parts if part != 'adapters']
    base = model.get_base_model() if hasattr(model, 'get_base_model') else model
    there = [name for name in names if _has(base, name)]
    missing = [part for part in settings.parts if part in ENCODERS and ENCODERS[part] not in there]
    if missing:
        raise ConfigError(f'trainable.parts names {missing[0]}, which this model has not')
    return there


def _has(model: nn.Module, name: str) -> bool:
    """A branch that is not there is None, not a module."""
    for part in name.split('.'):
        model = getattr(model, part, None)
    return isinstance(model, nn.Module)


def _adapted(begun: Beginning, settings: TrainableSettings, modules: list[str]) -> Any:
    from peft import LoraConfig, get_peft_model

    tokens: Any = None
    one_table = tied(begun.model)
    if settings.new_tokens and begun.new_ids:
        ids = list(begun.new_ids)
        tokens = {'embed_tokens': ids} if one_table else {'embed_tokens': ids, 'lm_head': ids}
    shared = {'modules_to_save': modules or None, 'trainable_token_indices': tokens}
    if settings.language_model == 'loramoe':
        moe = settings.loramoe
        return _unnamed(get_peft_model(begun.model, LoraMoEConfig(**moe.model_dump(), **shared)))
    if settings.language_model == 'lora':
        lora = settings.lora
        names = '|'.join(lora.targets) or '.*(?<!lm_head)'
        linears = _linears(begun.model, rf'(?:{names})')
        config = LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=linears,
            **shared,
        )
        return _unnamed(get_peft_model(begun.model, config))
    raise ConfigError('new_tokens learn on their own only beside lora or loramoe')


def _unnamed(model: Any) -> Any:
    """Without the path of its base on this machine: base.json says what the base is."""
    model.peft_config['default'].base_model_name_or_path = None
    model.get_base_model().name_or_path = None  # PEFT would write it where the former is None
    return model


def _linears(model: Any, pattern: str) -> list[str]:
    import re

    named = model.get_submodule(LANGUAGE).named_modules()
    found = [
        f'{LANGUAGE}.{name}'
        for name, module in named
        if isinstance(module, nn.Linear) and re.fullmatch(pattern, name.rsplit('.', 1)[-1])
    ]
    if not found:
        raise ConfigError(f'lora.targets {pattern} names no linear of the language model')
    return found


def shrink_frozen(model: Any) -> None:
    """The language model's frozen weights in bfloat16: half the memory, nothing to convert."""
    for name, parameter in model.named_parameters():
        if LANGUAGE not in name:
            continue
        if not parameter.requires_grad and parameter.dtype == torch.float32:
            parameter.data = parameter.data.bfloat16()


def hold_norms(model: nn.Module) -> None:
    """Batch norms keep the statistics they have; call after train()."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def counts(model: nn.Module) -> tuple[int, int]:
    """(parameters that learn, all parameters)."""
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return learning, sum(p.numel() for p in model.parameters())
