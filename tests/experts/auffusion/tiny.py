"""Auffusion with random weights in both published layouts, small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

MELS = 64
WIDTH = 32
VOCODER: dict[str, Any] = {
    'resblock': '1',
    'num_mels': MELS,
    'upsample_initial_channel': 32,
    'upsample_rates': [5, 4, 2, 2, 2],
    'upsample_kernel_sizes': [16, 16, 8, 4, 4],
    'resblock_kernel_sizes': [3, 7, 11],
    'resblock_dilation_sizes': [[1, 3, 5]] * 3,
    'sampling_rate': 16000,  # of training, and more of that in the published file
}


def save_plain(folder: Path) -> Path:
    """Write the layout of a Stable Diffusion pipeline, and its vocoder."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        **_image_model(),
        text_encoder=clip(WIDTH),
        tokenizer=characters(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    save_vocoder(folder / 'vocoder')
    return folder


def save_with_encoders(folder: Path) -> Path:
    """Write the layout with a CLIP and a T5 text encoder, each with its adapter."""
    for part, network in _image_model().items():
        network.save_pretrained(folder / part)
    conditions = []
    for index, encoder in enumerate((clip(24), t5(40))):
        width = encoder.config.hidden_size
        encoder.save_pretrained(folder / f'text_encoder_{index}')
        characters().save_pretrained(folder / f'text_encoder_{index}')
        save_adapter(folder / f'condition_adapter_{index}', width)
        conditions.append(
            {
                'text_encoder_name': f'text_encoder_{index}',
                'condition_adapter_name': f'condition_adapter_{index}',
                'condition_type': 'text',
                'condition_max_length': 77,
                'condition_dim': width,
                'cross_attention_dim': WIDTH,
            }
        )
    (folder / 'condition_config.json').write_text(json.dumps(conditions), 'utf-8')
    save_vocoder(folder / 'vocoder')
    return folder


def save_vocoder(folder: Path) -> None:
    """Write a vocoder as published: weight-normalised, under the key `generator`."""
    from unifiedmllm_ros.experts.auffusion.vocoder import Vocoder, VocoderConfig

    torch.manual_seed(2)
    folder.mkdir(parents=True)
    (folder / 'config.json').write_text(json.dumps(VOCODER), 'utf-8')
    state = {}
    for name, value in Vocoder(VocoderConfig.model_validate(VOCODER)).state_dict().items():
        if name.endswith('.weight'):
            state[f'{name}_v'] = value
            state[f'{name}_g'] = value.norm(dim=(1, 2), keepdim=True)
        else:
            state[name] = value
    torch.save({'generator': state}, folder / 'vocoder.pt')


def save_adapter(folder: Path, width: int) -> None:
    """Write an adapter as published."""
    from unifiedmllm_ros.experts.auffusion.prompts import ConditionAdapter

    folder.mkdir()
    torch.save(ConditionAdapter(width, WIDTH).state_dict(), folder / 'condition_adapter.pt')


def characters() -> Any:
    """A tokenizer of CLIP's kind with one token for each character."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f'{letter}</w>' for letter in letters)]
    vocabulary = {word: index for index, word in enumerate(words)}
    vocabulary |= {'<|startoftext|>': 512, '<|endoftext|>': 513}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def clip(width: int) -> Any:
    """A text encoder of CLIP."""
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    sizes = {'hidden_size': width, 'intermediate_size': 64, 'num_hidden_layers': 2}
    return CLIPTextModel(
        CLIPTextConfig(
            **sizes,
            vocab_size=514,
            num_attention_heads=4,
            bos_token_id=512,
            eos_token_id=513,
            pad_token_id=513,
        )
    ).eval()


def t5(width: int) -> Any:
    """The encoder of a T5."""
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(1)
    return T5EncoderModel(
        T5Config(vocab_size=514, d_model=width, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    ).eval()


def _image_model() -> dict[str, Any]:
    from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        down_block_types=('CrossAttnDownBlock2D', 'DownBlock2D'),
        up_block_types=('UpBlock2D', 'CrossAttnUpBlock2D'),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=('DownEncoderBlock2D',) * 4,
        up_block_types=('UpDecoderBlock2D',) * 4,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=64,
    )
    scheduler = PNDMScheduler(
        beta_schedule='scaled_linear',
        beta_start=0.00085,
        beta_end=0.012,
        skip_prk_steps=True,
        steps_offset=1,
    )
    return {'unet': unet, 'vae': vae, 'scheduler': scheduler}
