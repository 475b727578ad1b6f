"""Tiny checkpoints with random weights, made at test time: real architectures, real processors.

Sizes are the smallest that the architectures allow; tokenizers are trained on a few sentences but
have the published control tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BertTokenizerFast,
    CLIPImageProcessorPil,
    Florence2Config,
    Florence2ForConditionalGeneration,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    Kosmos2Config,
    Kosmos2ForConditionalGeneration,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
    Owlv2Config,
    Owlv2ForObjectDetection,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SiglipImageProcessorPil,
)

WORDS = (
    'find the red mug on the table and segment it, please',
    'You are the perception of a robot. Answer in one short sentence.',
    '<p>red mug</p><box>[0.412, 0.203, 0.587, 0.441]</box> <seg> </seg>',
    '{"bbox_2d": [412, 203, 587, 441], "label": "red mug"}',
)
QWEN_TOKENS = (
    '<|endoftext|>',
    '<|im_start|>',
    '<|im_end|>',
    '<|vision_start|>',
    '<|vision_end|>',
    '<|image_pad|>',
    '<|video_pad|>',
)
TEXT = {
    'hidden_size': 32,
    'intermediate_size': 48,
    'num_hidden_layers': 2,
    'num_attention_heads': 2,
    'num_key_value_heads': 1,
}


def byte_level(
    special: Sequence[str], others: Sequence[str] = (), size: int = 400
) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer; `special` come first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(WORDS, trainer)
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in others])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def write(folder: Path, model: Any, tokenizer: Any, pictures: Any = None, seed: int = 0) -> Path:
    """Save all of a checkpoint."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if pictures is not None:
        pictures.save_pretrained(folder)
    return folder


def _qwen_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = byte_level(QWEN_TOKENS)
    tokenizer.eos_token, tokenizer.pad_token = '<|im_end|>', '<|endoftext|>'
    return tokenizer


def qwen(folder: Path, version: str, **changes: Any) -> Path:
    """Qwen2.5-VL or Qwen3-VL."""
    torch.manual_seed(0)
    tokenizer = _qwen_tokenizer()
    place = tokenizer.convert_tokens_to_ids
    ids = {
        'image_token_id': place('<|image_pad|>'),
        'video_token_id': place('<|video_pad|>'),
        'vision_start_token_id': place('<|vision_start|>'),
        'vision_end_token_id': place('<|vision_end|>'),
    }
    text = {**TEXT, 'vocab_size': len(tokenizer) + 5, 'max_position_embeddings': 4096}
    # At the top level in this family: eos for generation.
    text |= {'eos_token_id': place('<|im_end|>'), 'pad_token_id': place('<|endoftext|>')}
    text |= {'bos_token_id': None}
    rope = {'rope_type': 'default', 'rope_theta': 10000.0, 'mrope_section': [2, 3, 3]}
    vision = {'depth': 2, 'hidden_size': 32, 'num_heads': 2, 'intermediate_size': 48}
    vision |= {'out_hidden_size': 32, 'spatial_merge_size': 2, 'temporal_patch_size': 2}
    model: Any
    if version == '2.5':
        vision |= {'patch_size': 14, 'fullatt_block_indexes': [1], 'window_size': 56}
        config = Qwen2_5_VLConfig(
            text_config={**text, 'rope_parameters': rope}, vision_config=vision, **ids, **changes
        )
        model = Qwen2_5_VLForConditionalGeneration(config)
        pictures = Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=28 * 28 * 64)
    else:
        vision |= {'patch_size': 16, 'deepstack_visual_indexes': [0]}
        vision |= {'num_position_embeddings': 64}
        text |= {'head_dim': 16, 'rope_parameters': {**rope, 'mrope_interleaved': True}}
        config = Qwen3VLConfig(text_config=text, vision_config=vision, **ids, **changes)
        model = Qwen3VLForConditionalGeneration(config)
        pictures = Qwen2VLImageProcessorPil(
            patch_size=16,
            size={'shortest_edge': 32 * 32, 'longest_edge': 32 * 32 * 64},
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
        )
    model.generation_config.eos_token_id = place('<|im_end|>')
    model.generation_config.pad_token_id = place('<|endoftext|>')
    return write(folder, model, tokenizer, pictures)


def florence2(folder: Path) -> Path:
    """Florence-2: DaViT and BART."""
    torch.manual_seed(0)
    places = [f'<loc_{n}>' for n in range(1000)]
    tokenizer = byte_level(
        ('<s>', '<pad>', '</s>', '<unk>', '<mask>', '<image>'),
        ['<poly>', '</poly>', '<sep>', *places],
    )
    tokenizer.bos_token, tokenizer.eos_token = '<s>', '</s>'
    tokenizer.pad_token, tokenizer.unk_token = '<pad>', '<unk>'
    image = tokenizer.convert_tokens_to_ids('<image>')
    config = Florence2Config(
        vision_config={
            'depths': [1, 1, 1, 1],
            'embed_dim': [8, 8, 16, 16],
            'num_heads': [1, 1, 2, 2],
            'num_groups': [1, 1, 2, 2],
            'window_size': 2,
            'projection_dim': 32,
        },
        text_config={
            'model_type': 'bart',
            'vocab_size': len(tokenizer),
            'd_model': 32,
            'encoder_layers': 1,
            'decoder_layers': 1,
            'encoder_attention_heads': 2,
            'decoder_attention_heads': 2,
            'encoder_ffn_dim': 32,
            'decoder_ffn_dim': 32,
            'max_position_embeddings': 256,
            'bos_token_id': 0,
            'pad_token_id': 1,
            'eos_token_id': 2,
            'decoder_start_token_id': 2,
            'forced_eos_token_id': 2,
        },
        image_token_id=image,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    model = Florence2ForConditionalGeneration(config)
    # As published.
    model.generation_config.update(
        num_beams=3, no_repeat_ngram_size=3, forced_bos_token_id=0, decoder_start_token_id=2
    )
    pictures = CLIPImageProcessorPil(
        size={'height': 64, 'width': 64}, do_center_crop=False, resample=3
    )
    write(folder, model, tokenizer, pictures)
    # As the published tokenizer names it.
    _with(folder / 'tokenizer_config.json', extra_special_tokens={'image_token': '<image>'})
    # 64 / 32 squared, and the mean of all.
    return _with(folder / 'preprocessor_config.json', image_seq_length=5) and folder


def paligemma(folder: Path) -> Path:
    """PaliGemma 2: SigLIP and Gemma 2."""
    torch.manual_seed(0)
    tokens = [f'<loc{n:04}>' for n in range(1024)] + [f'<seg{n:03}>' for n in range(128)]
    tokenizer = byte_level(('<pad>', '<eos>', '<bos>', '<unk>', '<image>'), tokens)
    tokenizer.pad_token, tokenizer.eos_token, tokenizer.bos_token = '<pad>', '<eos>', '<bos>'
    config = PaliGemmaConfig(
        vision_config={
            'model_type': 'siglip_vision_model',
            'hidden_size': 32,
            'intermediate_size': 48,
            'num_hidden_layers': 1,
            'num_attention_heads': 2,
            'patch_size': 14,
            'image_size': 56,
            'vision_use_head': False,
        },
        text_config={
            **TEXT,
            'model_type': 'gemma2',
            'vocab_size': len(tokenizer),
            'head_dim': 16,
            'pad_token_id': 0,
            'eos_token_id': 1,
            'bos_token_id': 2,
        },
        image_token_index=4,
        projection_dim=32,
        hidden_size=32,
        vocab_size=len(tokenizer),
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    model = PaliGemmaForConditionalGeneration(config)
    pictures = SiglipImageProcessorPil(size={'height': 56, 'width': 56})
    write(folder, model, tokenizer, pictures)
    return _with(folder / 'preprocessor_config.json', image_seq_length=16) and folder


def kosmos2(folder: Path) -> Path:
    """Kosmos-2."""
    torch.manual_seed(0)
    tags = ['</doc>', '<image>', '</image>', '</chunk>', '</line>', '<phrase>', '</phrase>']
    tags += ['<object>', '</object>', '</delimiter_of_multi_objects/>', '<grounding>']
    tags += [f'<patch_index_{n:04}>' for n in range(1024)]
    tokenizer = byte_level(('<s>', '<pad>', '</s>', '<unk>'))
    tokenizer.bos_token, tokenizer.eos_token = '<s>', '</s>'
    tokenizer.pad_token, tokenizer.unk_token = '<pad>', '<unk>'
    tokenizer.add_tokens([AddedToken(tag, lstrip=True, normalized=False) for tag in tags])
    config = Kosmos2Config(
        text_config={
            'vocab_size': len(tokenizer),
            'max_position_embeddings': 512,
            'embed_dim': 32,
            'layers': 1,
            'ffn_dim': 32,
            'attention_heads': 2,
            'bos_token_id': 0,
            'pad_token_id': 1,
            'eos_token_id': 2,
        },
        vision_config={
            'hidden_size': 32,
            'intermediate_size': 48,
            'num_hidden_layers': 1,
            'num_attention_heads': 2,
            'image_size': 56,
            'patch_size': 14,
        },
        latent_query_num=8,
    )
    pictures = CLIPImageProcessorPil(
        size={'shortest_edge': 56}, crop_size={'height': 56, 'width': 56}
    )
    return write(folder, Kosmos2ForConditionalGeneration(config), tokenizer, pictures)


def grounding_dino(folder: Path, variant: str = '') -> Path:
    """Grounding DINO, or with 'mm' its open reproduction: Swin and BERT."""
    torch.manual_seed(0)
    words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '.', '?', 'red', 'mug', 'bowl', 'blue']
    words += ['a', '##s', 'plate']
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'vocab.txt').write_text('\n'.join(words))
    tokenizer = BertTokenizerFast(str(folder / 'vocab.txt'))
    sizes = {
        'd_model': 32,
        'encoder_layers': 1,
        'encoder_ffn_dim': 32,
        'encoder_attention_heads': 2,
        'decoder_layers': 2,
        'decoder_ffn_dim': 32,
        'decoder_attention_heads': 2,
        'num_queries': 12,
        'encoder_n_points': 2,
        'decoder_n_points': 2,
        'fusion_dim': 32,
        'backbone_config': {
            'model_type': 'swin',
            'image_size': 64,
            'embed_dim': 8,
            'depths': [1, 1, 1, 1],
            'num_heads': [1, 1, 2, 2],
            'window_size': 2,
            'out_features': ['stage2', 'stage3', 'stage4'],
        },
        'text_config': {
            'model_type': 'bert',
            'vocab_size': len(tokenizer),
            'hidden_size': 32,
            'num_hidden_layers': 1,
            'num_attention_heads': 2,
            'intermediate_size': 32,
        },
    }
    model: Any
    if variant == 'mm':
        model = MMGroundingDinoForObjectDetection(MMGroundingDinoConfig(**sizes))
    else:
        model = GroundingDinoForObjectDetection(GroundingDinoConfig(**sizes))
    pictures = GroundingDinoImageProcessorPil(size={'shortest_edge': 64, 'longest_edge': 96})
    return write(folder, model, tokenizer, pictures)


def owlv2(folder: Path) -> Path:
    """OWLv2: CLIP."""
    torch.manual_seed(0)
    tokenizer = byte_level(('<|startoftext|>', '<|endoftext|>'), ['!'])
    tokenizer.bos_token, tokenizer.eos_token = '<|startoftext|>', '<|endoftext|>'
    tokenizer.pad_token = '!'
    end = tokenizer.eos_token_id
    config = Owlv2Config(
        text_config={
            'vocab_size': len(tokenizer),
            'hidden_size': 32,
            'intermediate_size': 32,
            'num_hidden_layers': 1,
            'num_attention_heads': 2,
            'max_position_embeddings': 16,
            'eos_token_id': end,
            'bos_token_id': tokenizer.bos_token_id,
            'pad_token_id': tokenizer.pad_token_id,
        },
        vision_config={
            'hidden_size': 32,
            'intermediate_size': 32,
            'num_hidden_layers': 1,
            'num_attention_heads': 2,
            'image_size': 64,
            'patch_size': 16,
        },
        projection_dim=32,
    )
    model = Owlv2ForObjectDetection(config)
    # Random weights of this head give boxes without area; small ones leave those of the grid.
    model.box_head.dense2.weight.data.mul_(1e-3)
    write(folder, model, tokenizer)
    # Its published preprocessing needs SciPy; ours reads these fields.
    pictures = {
        'image_processor_type': 'Owlv2ImageProcessor',
        'size': {'height': 64, 'width': 64},
        'image_mean': [0.48145466, 0.4578275, 0.40821073],
        'image_std': [0.26862954, 0.26130258, 0.27577711],
    }
    (folder / 'preprocessor_config.json').write_text(json.dumps(pictures))
    return folder


def _with(path: Path, **fields: Any) -> Path:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return path
