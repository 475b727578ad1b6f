"""Configuration of UnifiedMLLM: one object describes the encoders, the projector and the LM."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto import CONFIG_MAPPING

from unifiedmllm_ros.errors import ConfigError


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
        places: what the places beside a region are like, on which something could stand: the gap
            to it, and the most width and height, as shares of the picture; None: unknown.
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
        places: tuple[float, float, float] | None = None,
        **kwargs: Any,
    ) -> None:
        self.image_size = list(image_size)
        self.width = width
        self.neck_blocks = neck_blocks
        self.regions = regions
        self.words = list(words)
        self.geometry = geometry
        self.places = list(places) if places else None
        super().__init__(**kwargs)


class VideoConfig(PretrainedConfig):
    """The video branch: uniform frames through the image encoder, then a Q-Former.

    Attributes:
        frames: the most frames of a video, each with a learned temporal position.
        tokens: the Q-Former's queries; a video becomes as many tokens.
        hidden_size, layers, heads, intermediate_size: sizes of the Q-Former.
    """

    model_type = 'unifiedmllm_video'

    def __init__(
        self,
        frames: int = 8,
        tokens: int = 64,
        hidden_size: int = 768,
        layers: int = 2,
        heads: int = 12,
        intermediate_size: int = 3072,
        **kwargs: Any,
    ) -> None:
        self.frames = frames
        self.tokens = tokens
        self.hidden_size = hidden_size
        self.layers = layers
        self.heads = heads
        self.intermediate_size = intermediate_size
        super().__init__(**kwargs)


class AudioConfig(PretrainedConfig):
    """The audio branch: fixed-length segments through Whisper's encoder or CLAP's.

    Attributes:
        encoder_config: a `WhisperConfig` (its max_source_positions is 50 a second) or a
            `ClapAudioConfig`.
        segment_seconds: length of a segment.
        tokens: tokens that a segment becomes.
    """

    model_type = 'unifiedmllm_audio'

    def __init__(
        self,
        encoder_config: PretrainedConfig | dict[str, Any] | None = None,
        segment_seconds: float = 30.0,
        tokens: int = 32,
        **kwargs: Any,
    ) -> None:
        self.encoder_config = _as_config(encoder_config, 'whisper')
        self.segment_seconds = segment_seconds
        self.tokens = tokens
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
        pixel_mean, pixel_std: what a vision encoder of `transformers` wants its RGB values in
            [0, 1] normalised with, three each; None for 0 and 1. The region encoder has its own.
        video_config, audio_config: the branches that the model has besides the image; None for
            none.
        video_token_id, audio_token_id: ids of their placeholders, needed where there is a branch.
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
        pixel_mean: list[float] | None = None,
        pixel_std: list[float] | None = None,
        video_config: VideoConfig | dict[str, Any] | None = None,
        video_token_id: int | None = None,
        audio_config: AudioConfig | dict[str, Any] | None = None,
        audio_token_id: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.vision_config = _as_config(vision_config, RegionVisionConfig.model_type)
        self.text_config = _as_config(text_config, 'llama')
        self.image_token_id = image_token_id
        self.visual_tokens = visual_tokens
        self.first_number_id = first_number_id
        self.word_token_ids = word_token_ids or []
        self.pixel_mean = pixel_mean
        self.pixel_std = pixel_std
        self.video_config = _branch(video_config, VideoConfig, 'video_token_id', video_token_id)
        self.video_token_id = video_token_id
        self.audio_config = _branch(audio_config, AudioConfig, 'audio_token_id', audio_token_id)
        self.audio_token_id = audio_token_id
        super().__init__(**kwargs)

    def get_text_config(self, *_: Any, **__: Any) -> PretrainedConfig:
        """The language model's configuration (what generation reads its sizes from)."""
        return self.text_config


def _branch(
    value: PretrainedConfig | dict[str, Any] | None,
    kind: type[PretrainedConfig],
    name: str,
    token_id: int | None,
) -> PretrainedConfig | None:
    if value is None:
        return None
    if token_id is None:
        raise ConfigError(f'{name} is missing: the configuration has a {kind.model_type} branch')
    if isinstance(value, kind):
        return value
    return kind(**{key: field for key, field in dict(value).items() if key != 'model_type'})


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
