"""Configuration of UnifiedMLLM: one object describes the encoders, the projector and the LM."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto import CONFIG_MAPPING


class RegionVisionConfig(PretrainedConfig):
    """The small vision encoder of `tabletop-nano`: a backbone and a dense region head.

    Attributes:
        image_size: (height, width) in pixels that an image is stretched to.
        width: channels of the neck and of the region features.
        neck_blocks: residual 3x3 blocks at stride 16.
        regions: how many region tokens an image becomes.
        words: the words that the dense head recognises; each one is embedded by the language
            model's own embedding of that word.
        geometry: how many scalar geometry outputs a region has (log depth, log width, log height).
    """

    model_type = 'unifiedmllm_region_vision'

    def __init__(
        self,
        image_size: tuple[int, int] = (240, 320),
        width: int = 128,
        neck_blocks: int = 3,
        regions: int = 16,
        words: tuple[str, ...] = (),
        geometry: int = 3,
        **kwargs: Any,
    ) -> None:
        self.image_size = list(image_size)
        self.width = width
        self.neck_blocks = neck_blocks
        self.regions = regions
        self.words = list(words)
        self.geometry = geometry
        super().__init__(**kwargs)


class UnifiedMLLMConfig(PretrainedConfig):
    """Configuration of the whole model.

    `vision_config` is a `RegionVisionConfig` or the configuration of any vision encoder of
    `transformers`; `text_config` is that of any causal language model of `transformers`.

    Attributes:
        image_token_id: id of the placeholder that stands once for every visual token.
        visual_tokens: visual tokens per image.
        first_number_id: id of the token `0.000`; the 1001 numbers follow one another.
        word_token_ids: for every word of the region encoder the ids that spell it.
    """

    model_type = 'unifiedmllm'

    def __init__(
        self,
        vision_config: PretrainedConfig | dict[str, Any] | None = None,
        text_config: PretrainedConfig | dict[str, Any] | None = None,
        image_token_id: int = 0,
        visual_tokens: int = 16,
        first_number_id: int = 0,
        word_token_ids: list[list[int]] | None = None,
        **kwargs: Any,
    ) -> None:
        self.vision_config = _as_config(vision_config, RegionVisionConfig.model_type)
        self.text_config = _as_config(text_config, 'llama')
        self.image_token_id = image_token_id
        self.visual_tokens = visual_tokens
        self.first_number_id = first_number_id
        self.word_token_ids = word_token_ids or []
        super().__init__(**kwargs)

    def get_text_config(self, *_: Any, **__: Any) -> PretrainedConfig:
        """The language model's configuration (what generation reads its sizes from)."""
        return self.text_config


def _as_config(value: PretrainedConfig | dict[str, Any] | None, default: str) -> PretrainedConfig:
    if isinstance(value, PretrainedConfig):
        return value
    values = dict(value or {})
    model_type = values.pop('model_type', default)
    if model_type == RegionVisionConfig.model_type:
        return RegionVisionConfig(**values)
    return CONFIG_MAPPING[model_type](**values)


AutoConfig.register(UnifiedMLLMConfig.model_type, UnifiedMLLMConfig, exist_ok=True)
AutoConfig.register(RegionVisionConfig.model_type, RegionVisionConfig, exist_ok=True)
