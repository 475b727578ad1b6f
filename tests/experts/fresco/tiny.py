"""Stable Diffusion and a ControlNet with random weights, in the published layout, for FRESCO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.experts.auffusion.tiny import WIDTH, characters, clip


def save_fresco(folder: Path) -> Path:
    """Write a Stable Diffusion pipeline whose U-Net has four levels, and its ControlNet."""
    from diffusers import PNDMScheduler, StableDiffusionPipeline

    unet, vae = _unet(), _vae()
    StableDiffusionPipeline(
        unet=unet,
        vae=vae,
        scheduler=PNDMScheduler(
            beta_schedule='scaled_linear',
            beta_start=0.00085,
            beta_end=0.012,
            skip_prk_steps=True,
            steps_offset=1,
        ),
        text_encoder=clip(WIDTH),
        tokenizer=characters(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    controlnet(unet).save_pretrained(folder / 'controlnet')
    return folder


def controlnet(unet: Any) -> Any:
    """A ControlNet whose edges matter: a fresh one begins at zero."""
    from diffusers import ControlNetModel

    torch.manual_seed(5)
    network = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8, 16, 16))
    with torch.no_grad():
        for value in network.parameters():
            if not value.any():
                value.normal_(std=0.05)
    return network


def _unet(channels: tuple[int, ...] = (16, 16, 32, 32)) -> Any:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(3)
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=channels,
        down_block_types=(*('CrossAttnDownBlock2D',) * 3, 'DownBlock2D'),
        up_block_types=('UpBlock2D', *('CrossAttnUpBlock2D',) * 3),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def _vae() -> Any:
    from diffusers import AutoencoderKL

    torch.manual_seed(4)
    return AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=('DownEncoderBlock2D',) * 4,
        up_block_types=('UpDecoderBlock2D',) * 4,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=64,
    )
