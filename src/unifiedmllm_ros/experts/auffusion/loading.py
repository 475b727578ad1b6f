"""Auffusion's layout with several text encoders: which files there are, and a pipeline of them.

`condition_config.json` lists the encoders; `text_encoder_0/`, `condition_adapter_0/` and so on hold
them, beside unet, vae, scheduler and vocoder. There is no model_index.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from unifiedmllm_ros.errors import ModelFileError
from unifiedmllm_ros.experts.auffusion.encoders import TextCondition, TextConditions
from unifiedmllm_ros.experts.auffusion.prompts import TOKENS, ConditionAdapter
from unifiedmllm_ros.experts.diffusion.folder import Needs
from unifiedmllm_ros.experts.diffusion.options import Loading
from unifiedmllm_ros.experts.diffusion.pipeline import (
    Loaded,
    check_tokenizer,
    first_line,
    load_assembled,
    load_network,
    pipeline_class,
)

CONDITIONS = 'condition_config.json'
_MOST_ENCODERS = 8
# Text encoders by the model type of their config.json.
_ENCODERS = {
    'clip': 'CLIPTextModel',
    'clip_text_model': 'CLIPTextModel',
    't5': 'T5EncoderModel',
    'clap': 'ClapTextModelWithProjection',
    'clap_text_model': 'ClapTextModelWithProjection',
}


class Condition(BaseModel):
    """One text encoder in condition_config.json; its other fields are names from training."""

    model_config = ConfigDict(extra='ignore', frozen=True)

    condition_max_length: int = Field(default=TOKENS, ge=1, le=1024)
    condition_dim: int = Field(ge=1, le=16384)
    cross_attention_dim: int = Field(ge=1, le=16384)


def load_with_encoders(
    name: str, folder: Path, loading: Loading, needs: Needs
) -> tuple[Loaded, TextConditions]:
    """Return a pipeline without a text encoder, and the encoders that take its place.

    Raises ModelFileError where the folder lacks something or holds another model.
    """
    conditions = _conditions(folder, needs)
    factory = pipeline_class(name, needs.pipeline)
    parts: list[TextCondition] = []

    def assemble(dtype: Any) -> Any:
        pipeline = _pipeline(name, folder, factory, loading, needs, dtype)
        width = pipeline.unet.config.cross_attention_dim
        for index, condition in enumerate(conditions):
            if condition.cross_attention_dim != width:
                raise ModelFileError(
                    f'{folder / CONDITIONS} says that text encoder {index} gives '
                    f'{condition.cross_attention_dim} numbers a token and the U-Net reads {width}: '
                    f'they are not of one model, fetch {needs.repository} again'
                )
            encoder, tokenizer = _encoder(
                name, folder / f'text_encoder_{index}', loading, needs, dtype
            )
            adapter = _adapter(folder / f'condition_adapter_{index}', condition, needs).to(dtype)
            parts.append(TextCondition(tokenizer, encoder, adapter, condition.condition_max_length))
        return pipeline

    loaded = load_assembled(name, folder, loading, needs, assemble)
    for part in parts:
        part.encoder.to(loaded.device)
        part.adapter.to(loaded.device)
    return loaded, TextConditions(tuple(parts))


def _conditions(folder: Path, needs: Needs) -> list[Condition]:
    path = folder / CONDITIONS
    try:
        found = TypeAdapter(list[Condition]).validate_json(path.read_bytes())
    except OSError as error:
        raise ModelFileError(f'{path} cannot be read ({error.strerror})') from error
    except ValidationError as error:
        raise ModelFileError(
            f'{path} is no list of text encoders ({error.errors()[0]["msg"]}): fetch '
            f'{needs.repository} again'
        ) from error
    if not 1 <= len(found) <= _MOST_ENCODERS:
        raise ModelFileError(f'{path} names {len(found)} text encoders, not 1 to {_MOST_ENCODERS}')
    return found


def _pipeline(
    name: str, folder: Path, factory: Any, loading: Loading, needs: Needs, dtype: Any
) -> Any:
    import diffusers

    networks = {
        part: load_network(name, folder, part, kind, loading, needs, dtype)
        for part, kind in (
            ('unet', diffusers.UNet2DConditionModel),
            ('vae', diffusers.AutoencoderKL),
        )
    }
    return factory(
        **networks,
        scheduler=_scheduler(folder / 'scheduler', needs),
        text_encoder=None,
        tokenizer=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _scheduler(folder: Path, needs: Needs) -> Any:
    import diffusers

    path = folder / 'scheduler_config.json'
    try:
        said = json.loads(path.read_text(encoding='utf-8')).get('_class_name', '')
        kind = getattr(diffusers, said)
        if not issubclass(kind, diffusers.SchedulerMixin):
            raise TypeError(f'{said} is no scheduler')
        return kind.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ModelFileError(
            f'{path} cannot be read as a scheduler ({first_line(error)}): fetch '
            f'{needs.repository} again'
        ) from error


def _encoder(
    name: str, folder: Path, loading: Loading, needs: Needs, dtype: Any
) -> tuple[Any, Any]:
    """A text encoder and its tokenizer, of one folder."""
    import transformers

    try:
        said = json.loads((folder / 'config.json').read_text(encoding='utf-8')).get('model_type')
    except (OSError, ValueError, AttributeError) as error:
        raise ModelFileError(
            f'expert {name!r} finds no text encoder in {folder}, which {CONDITIONS} names '
            f'({first_line(error)}): fetch {needs.repository} again'
        ) from error
    if said not in _ENCODERS:
        raise ModelFileError(
            f'{folder} holds a model of type {said!r}, and Auffusion reads text with one of '
            f'{", ".join(_ENCODERS)}: fetch {needs.repository} again'
        )
    kind = getattr(transformers, _ENCODERS[said])
    encoder = load_network(name, folder.parent, folder.name, kind, loading, needs, dtype)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    check_tokenizer(folder, tokenizer, encoder, needs)
    return encoder.eval().requires_grad_(False), tokenizer


def _adapter(folder: Path, condition: Condition, needs: Needs) -> ConditionAdapter:
    path = folder / 'condition_adapter.pt'
    adapter = ConditionAdapter(condition.condition_dim, condition.cross_attention_dim)
    try:
        adapter.load_state_dict(torch.load(path, map_location='cpu', weights_only=True))
    except Exception as error:  # what is raised depends on what is wrong with the file
        raise ModelFileError(
            f'{path} is missing, damaged or not the adapter that {CONDITIONS} describes '
            f'({first_line(error)}): fetch {needs.repository} again'
        ) from error
    return adapter.eval().requires_grad_(False)
