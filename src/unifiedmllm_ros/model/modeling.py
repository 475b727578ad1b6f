"""UnifiedMLLM: encoders, projectors and causal language model as one `transformers` model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel

from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.model import embedded_adapter
from unifiedmllm_ros.model.audio import AudioTower
from unifiedmllm_ros.model.configuration import UnifiedMLLMConfig
from unifiedmllm_ros.model.encoders import build_image_tower
from unifiedmllm_ros.model.projectors import COORDINATE_FEATURES, coordinate_features
from unifiedmllm_ros.model.regions import Regions
from unifiedmllm_ros.model.video import VideoTower

NUMBERS = 1001
MEDIA = ('pixel_values', 'pixel_values_videos', 'audio_values')


class UnifiedMLLMForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """Text from images and text (arXiv 2408.02503, section 3; text, image, video and audio).

    In `input_ids` every token of an image has one placeholder of id `config.image_token_id`, and
    so for videos and audio segments. The images of a batch lie one after another in
    `pixel_values`, whichever conversations they belong to; videos and segments likewise.
    """

    config_class = UnifiedMLLMConfig
    base_model_prefix = 'language_model'
    main_input_name = 'input_ids'
    _supports_sdpa = True
    supports_gradient_checkpointing = True
    _tied_weights_keys: ClassVar[dict[str, str]] = {
        'language_model.lm_head.weight': 'language_model.model.embed_tokens.weight'
    }

    def __init__(self, config: UnifiedMLLMConfig) -> None:
        super().__init__(config)
        text = config.text_config
        self.language_model = AutoModelForCausalLM.from_config(text)
        scale = getattr(text, 'initializer_range', 0.02)
        self.image_tower = build_image_tower(config, scale)
        self.video_tower, self.audio_tower = _branches(config, self.image_tower.frame_width)
        self.register_buffer('word_ids', _word_table(config.word_token_ids))
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As of every model of `transformers`; an adapter in the folder is attached.

        Raises ModelFileError for one of other weights, MissingExtraError without PEFT.
        """
        folder = pretrained_model_name_or_path
        if folder is not None and embedded_adapter.holds_both(Path(folder)):
            embedded_adapter.check(Path(folder))
        return super().from_pretrained(folder, *args, **kwargs)

    def _init_weights(self, module: torch.nn.Module) -> None:
        """The parts initialise themselves; nothing is left to draw here."""

    def get_input_embeddings(self) -> torch.nn.Module:
        """The language model's token embedding."""
        return self.language_model.get_input_embeddings()

    def word_embeddings(self) -> Tensor | None:
        """(W, D): for each word of the region encoder the mean embedding of its tokens."""
        if not self.word_ids.numel():
            return None
        known = (self.word_ids >= 0).unsqueeze(-1)
        rows = self.get_input_embeddings()(self.word_ids.clamp(min=0)) * known
        return rows.sum(1) / known.sum(1)

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] -> visual tokens (B, N, D) in the embedding space."""
        return self.image_tower(pixel_values, self.word_embeddings())

    def encode_video(self, pixel_values_videos: Tensor) -> Tensor:
        """(B, F, 3, H, W) RGB in [0, 1], frames in order -> tokens (B, video tokens, D)."""
        if self.video_tower is None:
            raise ConfigError('this model has no video branch: its video_config is None')
        frames = self.image_tower.frame_features(
            pixel_values_videos.flatten(0, 1), self.word_embeddings()
        )
        return self.video_tower(frames.unflatten(0, pixel_values_videos.shape[:2]))

    def encode_audio(self, audio_values: Tensor) -> Tensor:
        """(N, samples) segments in [-1, 1] -> tokens (N, tokens of a segment, D)."""
        if self.audio_tower is None:
            raise ConfigError('this model has no audio branch: its audio_config is None')
        return self.audio_tower(audio_values)

    def embed(
        self,
        input_ids: Tensor,
        image_features: Tensor | None = None,
        video_features: Tensor | None = None,
        audio_features: Tensor | None = None,
    ) -> Tensor:
        """Token embeddings with the placeholders of each medium replaced.

        Raises: ValueError: placeholders and tokens of a medium differ in number.
        """
        config = self.config
        embeddings = self.get_input_embeddings()(input_ids)
        for medium, token_id, features in (
            ('image', config.image_token_id, image_features),
            ('video', config.video_token_id, video_features),
            ('audio', config.audio_token_id, audio_features),
        ):
            if features is not None:
                embeddings = _placed(embeddings, input_ids == token_id, features, medium)
        return embeddings

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_features: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        audio_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        wanted: Tensor | None = None,
        regions: Regions | None = None,
        exercise: bool = False,
        **kwargs: Any,
    ) -> Any:
        """As the causal language model's forward, with images by pixels or by features.

        Args:
            wanted: (B, T) bool, the positions whose logits are wanted; they come as (1, M, vocab).
                The output layer is the dearest of a small model, and is passed by these alone.
            regions: what the region encoder found in the images, in the place of `pixel_values`.
            exercise: let every branch take part, with nothing where the batch has no such medium,
                so that each process of a distributed training has a gradient for everything.
        """
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError('give input_ids or inputs_embeds')
            if image_features is None and pixel_values is not None:
                image_features = self.encode_image(pixel_values)
            if image_features is None and regions is not None:
                image_features = self.image_tower.project(regions, self.word_embeddings())
            video = None if pixel_values_videos is None else self.encode_video(pixel_values_videos)
            audio = None if audio_values is None else self.encode_audio(audio_values)
            inputs_embeds = self.embed(input_ids, image_features, video, audio)
            if exercise:
                idle = [image_features is None, video is None, audio is None]
                inputs_embeds = inputs_embeds + self._nothing(*idle).to(inputs_embeds.dtype)
        with _rows_only(self.language_model.get_output_embeddings(), wanted):
            return self.language_model(
                inputs_embeds=inputs_embeds, attention_mask=attention_mask, **kwargs
            )

    def _nothing(self, image: bool, video: bool, audio: bool) -> Tensor:
        """A zero that depends on the branches named."""
        size = self.config.vision_config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        blank = torch.zeros(1, 3, height, width, device=self.device)
        total = torch.zeros((), device=self.device)
        if image:
            total = total + self.encode_image(blank).sum()
        if video and self.video_tower is not None:
            frames = self.config.video_config.frames
            total = total + self.encode_video(blank[None].expand(1, frames, -1, -1, -1)).sum()
        if audio and self.audio_tower is not None:
            silence = torch.zeros(1, self.audio_tower.samples, device=self.device)
            total = total + self.encode_audio(silence).sum()
        return 0.0 * total

    def prepare_inputs_for_generation(self, input_ids: Tensor, **kwargs: Any) -> dict[str, Any]:
        """The media belong to the first step alone; afterwards the cache holds them."""
        media = {name: kwargs.pop(name, None) for name in MEDIA}
        inputs = super().prepare_inputs_for_generation(input_ids, **kwargs)
        cache = kwargs.get('past_key_values')
        if cache is None or not cache.get_seq_length():
            inputs.update({name: value for name, value in media.items() if value is not None})
        return inputs

    @torch.no_grad()
    def initialise_numbers(self) -> None:
        """Give the 1001 number tokens a common geometry: near numbers, near embeddings."""
        first, rows = self.config.first_number_id, self.get_input_embeddings().weight
        basis = torch.empty(COORDINATE_FEATURES, rows.shape[1])
        torch.nn.init.orthogonal_(basis)
        features = coordinate_features(torch.linspace(0, 1, NUMBERS)) / COORDINATE_FEATURES**0.5
        # The same root mean square as the other rows have.
        scale = self.config.text_config.initializer_range * (2 * rows.shape[1]) ** 0.5
        rows[first : first + NUMBERS] = scale * (features @ basis)


def _branches(
    config: UnifiedMLLMConfig, frame_width: int
) -> tuple[VideoTower | None, AudioTower | None]:
    size = config.text_config.hidden_size
    video, audio = config.video_config, config.audio_config
    return (
        None if video is None else VideoTower(video, frame_width, size),
        None if audio is None else AudioTower(audio, size),
    )


@contextmanager
def _rows_only(head: torch.nn.Module, wanted: Tensor | None) -> Iterator[None]:
    """While it lasts, the output layer is given some positions alone."""
    if wanted is None:
        yield
        return

    def chosen(_: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0][wanted].unsqueeze(0), *inputs[1:])

    handle = head.register_forward_pre_hook(chosen)
    try:
        yield
    finally:
        handle.remove()


def _placed(embeddings: Tensor, places: Tensor, features: Tensor, medium: str) -> Tensor:
    rows = _repeated(features, places).to(embeddings.dtype)
    if int(places.sum()) != len(rows):
        raise ValueError(
            f'{int(places.sum())} {medium} placeholders for {len(rows)} {medium} tokens; '
            "encode the conversation with this model's processor"
        )
    return embeddings.masked_scatter(places.unsqueeze(-1), rows)


def _repeated(features: Tensor, places: Tensor) -> Tensor:
    """Features (B, N, D) as rows, each sequence's as often as it has placeholders for them.

    Sequences without placeholders have no features.
    """
    rows = features.reshape(-1, features.shape[-1])
    counts = places.sum(1)
    counts = counts[counts > 0]
    if features.ndim != 3 or len(features) != len(counts) or int(counts.sum()) <= len(rows):
        return rows
    times = torch.div(counts, features.shape[1], rounding_mode='floor').clamp(min=1)
    return torch.cat([own.repeat(int(n), 1) for own, n in zip(features, times, strict=True)])


def _word_table(spellings: list[list[int]]) -> Tensor:
    """Token ids of each word, padded with -1: (W, longest)."""
    longest = max((len(ids) for ids in spellings), default=0)
    rows = [ids + [-1] * (longest - len(ids)) for ids in spellings]
    return torch.tensor(rows, dtype=torch.long).reshape(len(spellings), longest)
