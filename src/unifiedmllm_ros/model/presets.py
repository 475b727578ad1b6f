"""Presets: the sizes of a model as a file under config/models/."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.locations import share
from unifiedmllm_ros.model.configuration import RegionVisionConfig, UnifiedMLLMConfig

Fields = dict[str, Any]


@dataclass(frozen=True)
class TokenIds:
    """What a tokenizer decides: ids of tokens, and how many there are.

    `video` and `audio` are None for a tokenizer without their placeholders.
    """

    vocabulary: int
    bos: int
    eos: int
    pad: int
    image: int
    first_number: int
    video: int | None = None
    audio: int | None = None


class Preset(BaseModel):
    """The sizes of one preset.

    Each section holds the fields of a configuration class: `vision` and `text` of one of
    `transformers` or ours, named by its model_type; `video` of `VideoConfig`, `audio` of
    `AudioConfig`.
    """

    model_config = ConfigDict(extra='forbid', frozen=True)

    vision: Fields
    text: Fields
    visual_tokens: int = Field(ge=1)
    pixel_mean: list[float] | None = Field(default=None, min_length=3, max_length=3)
    pixel_std: list[float] | None = Field(default=None, min_length=3, max_length=3)
    video: Fields | None = None
    audio: Fields | None = None

    def config(
        self,
        tokens: TokenIds,
        words: Sequence[str] = (),
        spellings: Sequence[Sequence[int]] = (),
    ) -> UnifiedMLLMConfig:
        """The model's configuration with a tokenizer's ids.

        Args:
            words: what the region encoder recognises; unused by other vision encoders.
            spellings: for each word its token ids.

        Raises: ConfigError: the tokenizer has no placeholder for a branch of the preset.
        """
        regional = self.vision.get('model_type') == RegionVisionConfig.model_type
        return UnifiedMLLMConfig(
            vision_config={**self.vision, 'words': list(words)} if regional else self.vision,
            text_config=self._text(tokens),
            image_token_id=tokens.image,
            visual_tokens=self.visual_tokens,
            first_number_id=tokens.first_number,
            word_token_ids=[list(ids) for ids in spellings] if regional else None,
            pixel_mean=self.pixel_mean,
            pixel_std=self.pixel_std,
            video_config=self.video,
            video_token_id=tokens.video,
            audio_config=self.audio,
            audio_token_id=tokens.audio,
        )

    def _text(self, tokens: TokenIds) -> Fields:
        return {
            **self.text,
            'vocab_size': tokens.vocabulary,
            'bos_token_id': tokens.bos,
            'eos_token_id': tokens.eos,
            'pad_token_id': tokens.pad,
        }


def load_preset(name: str) -> Preset:
    """Read a preset: a name under config/models/ (such as `7b`), or the path of a YAML file.

    Raises: ConfigError: the file is not there, or a field is wrong.
    """
    file = Path(name) if name.endswith('.yaml') else share(f'config/models/{name}.yaml')
    try:
        return Preset.model_validate(yaml.safe_load(file.read_text(encoding='utf-8')))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f'preset {file}: {error}') from error
