"""What runs on this machine and how: a YAML or JSON file, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator

from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.model.adapters.registry import ADAPTERS, DETECTORS

DType = Literal['auto', 'float32', 'float16', 'bfloat16']
Attention = Literal['auto', 'eager', 'sdpa', 'flash_attention_2', 'flash_attention_3']
Quantisation = Literal['', 'bitsandbytes-8bit', 'bitsandbytes-4bit', 'torchao-int8', 'torchao-int4']
FAMILIES = (*ADAPTERS, *DETECTORS)


class LocalDescription(BaseModel):
    """One checkpoint of a published model. Relative folders count from the description's own."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    kind: Literal['local'] = Field(description='What is described: a model on this machine.')
    weights: str = Field(
        min_length=1,
        description='Folder with the checkpoint, or its name on the hub (owner/name) after '
        '`unifiedmllm models download`.',
    )
    family: str = Field(
        default='',
        description=f'How it is spoken to; empty to read it from the checkpoint. One '
        f'of {", ".join(FAMILIES)}.',
    )
    device: str = Field(
        default='auto',
        pattern=r'^(auto|cpu|cuda(:[0-9]{1,2})?|balanced)$',
        description='auto (the GPU where there is one), cpu, cuda, cuda:1, or balanced (over all '
        'GPUs).',
    )
    dtype: DType = Field(
        default='auto',
        description="auto: the checkpoint's own on a GPU, float32 on a CPU.",
    )
    attention: Attention = Field(
        default='auto', description='Implementation of attention; auto: the fastest there is.'
    )
    quantisation: Quantisation = Field(
        default='',
        description='Quantise while loading. Checkpoints that are quantised (GPTQ, AWQ, '
        'bitsandbytes, torchao) need nothing here.',
    )
    constrained: bool = Field(
        default=False,
        description='Make a chat model write the unified representation itself, held to its '
        'grammar.',
    )
    max_pixels: int = Field(
        default=0,
        ge=0,
        le=100_000_000,
        description='Larger images are shrunk to this area before the model sees them; 0: by the '
        "checkpoint's own rule alone.",
    )
    video_frames: int = Field(
        default=8, ge=2, le=768, description='Most frames of a video, at equal distances.'
    )
    threshold: float | None = Field(
        default=None, ge=0.0, le=1.0, description="Least score of a detector; empty: its family's."
    )

    _folder: Path = PrivateAttr(default=Path())

    @field_validator('family')
    @classmethod
    def _known_family(cls, value: str) -> str:
        if value and value not in FAMILIES:
            raise ValueError(f'{value!r} is none of {", ".join(FAMILIES)}')
        return value

    @property
    def folder(self) -> Path:
        """Where the description lies."""
        return self._folder


class PairDescription(BaseModel):
    """A language model that reads an instruction once, and a detector that follows it."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    kind: Literal['pair'] = Field(description='What is described: a slow and a fast model.')
    slow: str = Field(min_length=1, description='Model that reads the instruction: any name.')
    fast: str = Field(min_length=1, description='Detector that follows what it names.')
    refresh: float = Field(
        default=0.0,
        ge=0.0,
        le=86400.0,
        description='Seconds after which the instruction is read anew; 0: never.',
    )

    _folder: Path = PrivateAttr(default=Path())

    @property
    def folder(self) -> Path:
        """Where the description lies."""
        return self._folder


def read_local(path: Path) -> LocalDescription | PairDescription:
    """Read a description (JSON is YAML, too). Raises ConfigError naming file, field and remedy."""
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
        pair = isinstance(content, dict) and content.get('kind') == 'pair'
        found: LocalDescription | PairDescription
        if pair:
            found = PairDescription.model_validate(content)
        else:
            found = LocalDescription.model_validate(content)
    except OSError as error:
        raise ConfigError(f'{path} cannot be read: {error.strerror}') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f'{path} is not YAML: {error}') from error
    except pydantic.ValidationError as error:
        reasons = '; '.join(
            f'{".".join(map(str, one["loc"])) or "file"}: {one["msg"]}' for one in error.errors()
        )
        raise ConfigError(f'{path} is no model description: {reasons}') from error
    found._folder = path.parent
    return found
