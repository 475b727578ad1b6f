"""Tiny twins of the published pipelines: the same classes with random weights, made for a test.

They are saved as the published folders are, and come back through the very same loader.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('diffusers', reason='needs the extra [experts]')

# Parts.


def tokenizer() -> Any:
    """One token for each character, so that 76 characters are too many."""
    from transformers import CLIPTokenizer

    symbols = [chr(code) for code in _byte_symbols()]
    words = symbols + [symbol + '</w>' for symbol in symbols] + ['<|startoftext|>', '<|endoftext|>']
    return CLIPTokenizer(
        vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=77
    )


def _byte_symbols() -> list[int]:
    """The visible character that stands for each byte, as GPT-2 assigned them."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return shown + [256 + index for index in range(len(hidden))]


def text_encoder() -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=514,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=77,
            bos_token_id=512,
            eos_token_id=513,
            pad_token_id=513,
            projection_dim=32,
        )
    ).eval()


def vae(**more: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=('DownEncoderBlock2D',) * 4,
        up_block_types=('UpDecoderBlock2D',) * 4,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        sample_size=64,
        **more,
    )


def unet(channels: int = 4, gated: bool = False) -> Any:
    import torch
    from diffusers import UNet2DConditionModel

    made = UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        block_out_channels=(16, 32),
        down_block_types=('CrossAttnDownBlock2D', 'DownBlock2D'),
        up_block_types=('UpBlock2D', 'CrossAttnUpBlock2D'),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
        attention_type='gated' if gated else 'default',
    )
    with torch.no_grad():
        for name, value in made.named_parameters():
            if name.endswith(('alpha_attn', 'alpha_dense')):
                value.fill_(0.5)  # they begin at 0, where boxes do not matter
    return made


def scheduler(kind: str = 'PNDMScheduler') -> Any:
    import diffusers

    more = {'skip_prk_steps': True} if kind == 'PNDMScheduler' else {}
    return getattr(diffusers, kind)(
        beta_start=0.00085, beta_end=0.012, beta_schedule='scaled_linear', steps_offset=1, **more
    )


def safety_checker(flags: bool) -> Any:
    """One that flags everything, or nothing."""
    import torch
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    tower = {'hidden_size': 32, 'intermediate_size': 64, 'num_hidden_layers': 1}
    config = CLIPConfig(
        text_config={**tower, 'num_attention_heads': 4, 'vocab_size': 514},
        vision_config={**tower, 'num_attention_heads': 4, 'image_size': 32, 'patch_size': 8},
        projection_dim=32,
    )
    made = StableDiffusionSafetyChecker(config)
    with torch.no_grad():
        made.concept_embeds_weights.fill_(-2.0 if flags else 2.0)
        made.special_care_embeds_weights.fill_(2.0)
    return made


def feature_extractor() -> Any:
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil(size={'shortest_edge': 32}, crop_size={'height': 32, 'width': 32})


# Folders.


def _save(folder: Path, kind: str, seed: int, parts: Callable[[], dict[str, Any]]) -> Path:
    import diffusers
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = parts()
    getattr(diffusers, kind)(**made).save_pretrained(folder)
    return folder


def _stable(channels: int, **more: Any) -> dict[str, Any]:
    return {
        'vae': vae(),
        'text_encoder': text_encoder(),
        'tokenizer': tokenizer(),
        'unet': unet(channels),
        'scheduler': scheduler(),
        'safety_checker': None,
        'feature_extractor': None,
        **more,
    }


def save_stable_diffusion(folder: Path, flags: bool | None = None) -> Path:
    """Stable Diffusion; flags: with a safety checker that flags everything, or nothing."""
    if flags is None:
        more: dict[str, Any] = {'requires_safety_checker': False}
    else:
        more = {'safety_checker': safety_checker(flags), 'feature_extractor': feature_extractor()}
    return _save(folder, 'StableDiffusionPipeline', 1, lambda: _stable(4, **more))


def save_inpaint(folder: Path) -> Path:
    """Stable Diffusion inpainting."""
    return _save(
        folder,
        'StableDiffusionInpaintPipeline',
        2,
        lambda: _stable(9, requires_safety_checker=False),
    )


def save_instruct(folder: Path) -> Path:
    """InstructPix2Pix."""
    kind = 'EulerAncestralDiscreteScheduler'
    return _save(
        folder,
        'StableDiffusionInstructPix2PixPipeline',
        3,
        lambda: _stable(8, scheduler=scheduler(kind), requires_safety_checker=False),
    )


def save_gligen(folder: Path, channels: int = 4) -> Path:
    """GLIGEN; the folder says of itself what the published ones say."""
    _save(
        folder,
        'StableDiffusionGLIGENPipeline',
        4,
        lambda: _stable(
            channels,
            unet=unet(channels, gated=True),
            safety_checker=safety_checker(False),
            feature_extractor=feature_extractor(),
        ),
    )
    rewrite(folder / 'model_index.json', _class_name='StableDiffusionPipeline')
    return folder


def rewrite(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None takes one away."""
    content = {**json.loads(path.read_text(encoding='utf-8')), **changes}
    kept = {key: value for key, value in content.items() if value is not None}
    path.write_text(json.dumps(kept), encoding='utf-8')


def _unet_3d(kind: str) -> Any:
    import diffusers

    more = {} if kind == 'I2VGenXLUNet' else {'sample_size': 8}
    return getattr(diffusers, kind)(
        block_out_channels=(16, 32),
        down_block_types=('CrossAttnDownBlock3D', 'DownBlock3D'),
        up_block_types=('UpBlock3D', 'CrossAttnUpBlock3D'),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
        **more,
    )


def save_modelscope(folder: Path) -> Path:
    """ModelScopeT2V."""
    return _save(
        folder,
        'TextToVideoSDPipeline',
        5,
        lambda: {
            'vae': vae(),
            'text_encoder': text_encoder(),
            'tokenizer': tokenizer(),
            'unet': _unet_3d('UNet3DConditionModel'),
            'scheduler': scheduler('DDIMScheduler'),
        },
    )


def save_i2vgen(folder: Path) -> Path:
    """I2VGen-XL."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        projection_dim=32,
    )
    return _save(
        folder,
        'I2VGenXLPipeline',
        6,
        lambda: {
            'vae': vae(),
            'text_encoder': text_encoder(),
            'tokenizer': tokenizer(),
            'image_encoder': CLIPVisionModelWithProjection(vision),
            'feature_extractor': feature_extractor(),
            'unet': _unet_3d('I2VGenXLUNet'),
            'scheduler': scheduler('DDIMScheduler'),
        },
    )


# Pipelines that no class of ours is made for: configuration alone.


def save_sdxl(folder: Path) -> Path:
    """Stable Diffusion XL: two text encoders, a U-Net that is told sizes."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModelWithProjection

    def parts() -> dict[str, Any]:
        encoder = text_encoder()
        return {
            'vae': vae(),
            'text_encoder': encoder,
            'text_encoder_2': CLIPTextModelWithProjection(encoder.config),
            'tokenizer': tokenizer(),
            'tokenizer_2': tokenizer(),
            'unet': UNet2DConditionModel(
                sample_size=8,
                block_out_channels=(16, 32),
                down_block_types=('DownBlock2D', 'CrossAttnDownBlock2D'),
                up_block_types=('CrossAttnUpBlock2D', 'UpBlock2D'),
                layers_per_block=1,
                cross_attention_dim=64,
                attention_head_dim=(2, 4),
                norm_num_groups=8,
                addition_embed_type='text_time',
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=8 * 6 + 32,
            ),
            'scheduler': scheduler('EulerDiscreteScheduler'),
        }

    return _save(folder, 'StableDiffusionXLPipeline', 7, parts)


def save_flux(folder: Path) -> Path:
    """FLUX: a transformer on packed latents, with a second, T5 text encoder."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
    from transformers import T5Config, T5EncoderModel

    t5 = T5Config(vocab_size=514, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
    return _save(
        folder,
        'FluxPipeline',
        8,
        lambda: {
            'vae': vae(shift_factor=0.1),
            'text_encoder': text_encoder(),
            'text_encoder_2': T5EncoderModel(t5),
            'tokenizer': tokenizer(),
            'tokenizer_2': tokenizer(),
            'transformer': FluxTransformer2DModel(
                patch_size=1,
                in_channels=16,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=32,
                pooled_projection_dim=32,
                axes_dims_rope=(4, 4, 8),
            ),
            'scheduler': FlowMatchEulerDiscreteScheduler(),
        },
    )


def save_wan(folder: Path) -> Path:
    """Wan 2: a video transformer and a causal video autoencoder."""
    from diffusers import (
        AutoencoderKLWan,
        FlowMatchEulerDiscreteScheduler,
        WanTransformer3DModel,
    )
    from transformers import UMT5Config, UMT5EncoderModel

    t5 = UMT5Config(vocab_size=514, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
    return _save(
        folder,
        'WanPipeline',
        9,
        lambda: {
            'vae': AutoencoderKLWan(base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
            'text_encoder': UMT5EncoderModel(t5),
            'tokenizer': tokenizer(),
            'transformer': WanTransformer3DModel(
                patch_size=(1, 2, 2),
                num_attention_heads=2,
                attention_head_dim=12,
                in_channels=16,
                out_channels=16,
                text_dim=32,
                freq_dim=256,
                ffn_dim=32,
                num_layers=2,
                cross_attn_norm=True,
                qk_norm='rms_norm_across_heads',
                rope_max_seq_len=32,
            ),
            'scheduler': FlowMatchEulerDiscreteScheduler(shift=7.0),
        },
    )


FOLDERS: dict[str, Callable[[Path], Path]] = {
    'flagging': lambda folder: save_stable_diffusion(folder, flags=True),
    'flux': save_flux,
    'gligen': save_gligen,
    'gligen_inpaint': lambda folder: save_gligen(folder, channels=9),
    'i2vgen_xl': save_i2vgen,
    'instruct_pix2pix': save_instruct,
    'modelscope_t2v': save_modelscope,
    'passing': lambda folder: save_stable_diffusion(folder, flags=False),
    'sdxl': save_sdxl,
    'stable_diffusion': save_stable_diffusion,
    'stable_diffusion_inpaint': save_inpaint,
    'wan': save_wan,
}
"""How each twin is saved."""
