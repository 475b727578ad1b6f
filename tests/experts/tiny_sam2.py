"""SAM 2.1 with random weights and the published architecture, small enough for a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

_SIZE = 64


def _vision(width: int) -> dict[str, Any]:
    return {
        'backbone_config': {
            'model_type': 'sam2_hiera_det_model',
            'hidden_size': 8,
            'image_size': [_SIZE, _SIZE],
            'blocks_per_stage': [1, 1, 2, 1],
            'embed_dim_per_stage': [8, 16, 32, 64],
            'num_attention_heads_per_stage': [1, 1, 2, 4],
            'window_size_per_stage': [4, 2, 2, 2],
            'global_attention_blocks': [3],
            'window_positional_embedding_background_size': [2, 2],
        },
        'backbone_channel_list': [64, 32, 16, 8],
        'backbone_feature_sizes': [[16, 16], [8, 8], [4, 4]],
        'fpn_hidden_size': width,
    }


def _parts(width: int) -> dict[str, Any]:
    return {
        'vision_config': _vision(width),
        'prompt_encoder_config': {
            'hidden_size': width,
            'image_size': _SIZE,
            'mask_input_channels': 8,
        },
        'mask_decoder_config': {
            'hidden_size': width,
            'mlp_dim': 64,
            'num_attention_heads': 4,
            'iou_head_hidden_dim': 32,
        },
    }


def save_image_model(folder: Path) -> Path:
    """Write a Sam2Model to a folder."""
    from transformers import Sam2Config, Sam2Model

    torch.manual_seed(0)
    model = Sam2Model(Sam2Config(**_parts(32)))
    _stir(model)
    model.save_pretrained(folder)
    return folder


def save_video_model(folder: Path) -> Path:
    """Write a Sam2VideoModel to a folder."""
    from transformers import Sam2VideoConfig, Sam2VideoModel

    torch.manual_seed(0)
    config = Sam2VideoConfig(
        **_parts(128),
        image_size=_SIZE,
        memory_attention_hidden_size=128,
        memory_attention_num_layers=2,
        memory_attention_feed_forward_hidden_size=64,
        memory_attention_rope_feat_sizes=[4, 4],
        memory_encoder_hidden_size=128,
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=64,
    )
    model = Sam2VideoModel(config)
    _stir(model)
    model.save_pretrained(folder)
    return folder


def _stir(model: Any) -> None:
    """Make every weight count: fresh ones are so small that prompts hardly matter."""
    with torch.no_grad():
        for value in model.parameters():
            if value.dim() > 1:
                value.normal_(std=0.5 / value[0].numel() ** 0.5)
