"""Shrunken twins of the presets: the same classes and branches, tiny dimensions, no weights."""

from __future__ import annotations

import torch

from unifiedmllm_ros.model.configuration import UnifiedMLLMConfig
from unifiedmllm_ros.model.modeling import UnifiedMLLMForConditionalGeneration
from unifiedmllm_ros.model.presets import Preset, TokenIds, load_preset

TOKENS = TokenIds(vocabulary=1100, bos=1, eos=2, pad=0, image=3, first_number=20, video=4, audio=5)
WORDS = ('blue', 'mug')
SPELLINGS = ((10, 11), (12,))
TINY_TEXT = {
    'hidden_size': 32,
    'intermediate_size': 48,
    'num_hidden_layers': 2,
    'num_attention_heads': 4,
    'num_key_value_heads': 2,
}
TINY_VISION = {
    'unifiedmllm_region_vision': (
        {'image_size': [64, 96], 'width': 16, 'neck_blocks': 1, 'regions': 5},
        5,
    ),
    'clip_vision_model': (
        {
            'image_size': 28,
            'hidden_size': 16,
            'intermediate_size': 32,
            'num_hidden_layers': 3,
            'num_attention_heads': 2,
        },
        4,
    ),
}
TINY_VIDEO = {
    'frames': 4,
    'tokens': 6,
    'hidden_size': 16,
    'heads': 2,
    'layers': 1,
    'intermediate_size': 32,
}
TINY_AUDIO = {
    'whisper': {
        'num_mel_bins': 8,
        'd_model': 16,
        'encoder_layers': 1,
        'encoder_attention_heads': 2,
        'encoder_ffn_dim': 32,
        'max_source_positions': 25,
    },
    'clap_audio_model': {
        'num_mel_bins': 16,
        'spec_size': 64,
        'hidden_size': 32,
        'patch_embeds_hidden_size': 16,
        'depths': [1, 1],
        'num_hidden_layers': 2,
        'num_attention_heads': [2, 2],
        'window_size': 4,
    },
}


def shrunken(name: str) -> UnifiedMLLMConfig:
    return shrunken_preset(name).config(TOKENS, WORDS, SPELLINGS)


def shrunken_preset(name: str) -> Preset:
    preset = load_preset(name)
    vision, tokens = TINY_VISION[preset.vision['model_type']]
    return Preset(
        vision={**preset.vision, **vision},
        text={**preset.text, **TINY_TEXT},
        visual_tokens=tokens,
        pixel_mean=preset.pixel_mean,
        pixel_std=preset.pixel_std,
        video=None if preset.video is None else {**preset.video, **TINY_VIDEO},
        audio=None if preset.audio is None else _tiny_audio(preset.audio),
    )


def _tiny_audio(audio: dict) -> dict:
    encoder = audio['encoder_config']
    tiny = {**encoder, **TINY_AUDIO[encoder['model_type']]}
    return {'encoder_config': tiny, 'segment_seconds': 0.5, 'tokens': 3}


def shrunken_model(name: str) -> UnifiedMLLMForConditionalGeneration:
    torch.manual_seed(0)
    return UnifiedMLLMForConditionalGeneration(shrunken(name)).eval()


def mixed_batch(model: UnifiedMLLMForConditionalGeneration) -> dict[str, torch.Tensor]:
    """Three conversations: about an image, a video and two audio segments, as far as built."""
    config, draw = model.config, torch.Generator().manual_seed(0)
    size = config.vision_config.image_size
    height, width = size if isinstance(size, list) else (size, size)
    media = {'pixel_values': torch.rand(1, 3, height, width, generator=draw)}
    rows = [[TOKENS.image] * config.visual_tokens]
    if config.video_config is not None:
        media['pixel_values_videos'] = torch.rand(1, 4, 3, height, width, generator=draw)
        rows.append([TOKENS.video] * config.video_config.tokens)
    if config.audio_config is not None:
        media['audio_values'] = 0.1 * torch.randn(2, model.audio_tower.samples, generator=draw)
        rows.append([TOKENS.audio] * (2 * config.audio_config.tokens))
    longest = max(map(len, rows))
    ids = torch.tensor([[1, *row, *range(30, 40 + longest - len(row))] for row in rows])
    return {'input_ids': ids, 'attention_mask': torch.ones_like(ids), **media}
