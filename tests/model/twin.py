"""The shrunken twin of tabletop-nano: the same classes, tiny dimensions, random weights."""

from __future__ import annotations

import torch
from transformers import LlamaConfig

from unifiedmllm_ros.model.configuration import RegionVisionConfig, UnifiedMLLMConfig
from unifiedmllm_ros.model.modeling import UnifiedMLLMForConditionalGeneration
from unifiedmllm_ros.model.processing import ProcessorConfig, UnifiedMLLMProcessor
from unifiedmllm_ros.model.tokenizer import build_tokenizer
from unifiedmllm_ros.training.tabletop_nano import imagenet_file

WORDS = ('blue', 'bowl', 'mug', 'red')
IMAGE_SIZE = (64, 96)
REGIONS = 5
CORPUS = ['find the red mug', 'segment the blue bowl please', 'There are 2 mugs and a bowl.']


def twin_processor(look_again: bool = False) -> UnifiedMLLMProcessor:
    return UnifiedMLLMProcessor(
        build_tokenizer(CORPUS * 4, 320),
        ProcessorConfig(IMAGE_SIZE, REGIONS, look_again=look_again),
    )


def twin_config(
    processor: UnifiedMLLMProcessor,
    hidden: int = 32,
    heads: int = 4,
    layers: int = 2,
    places: tuple[float, float, float] | None = None,
) -> UnifiedMLLMConfig:
    text = LlamaConfig(
        vocab_size=processor.vocab_size,
        hidden_size=hidden,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.04,
        bos_token_id=processor.bos_id,
        eos_token_id=processor.eos_id,
        pad_token_id=processor.pad_id,
    )
    encode = processor.tokenizer.encode
    return UnifiedMLLMConfig(
        vision_config=RegionVisionConfig(IMAGE_SIZE, 16, 1, REGIONS, WORDS, places=places),
        text_config=text,
        image_token_id=processor.image_id,
        visual_tokens=REGIONS,
        first_number_id=int(processor.number_ids[0]),
        word_token_ids=[encode(word, add_special_tokens=False).ids for word in WORDS],
    )


def twin_model(
    processor: UnifiedMLLMProcessor,
    hidden: int = 32,
    heads: int = 4,
    layers: int = 2,
    places: tuple[float, float, float] | None = None,
) -> UnifiedMLLMForConditionalGeneration:
    torch.manual_seed(0)
    config = twin_config(processor, hidden, heads, layers, places)
    model = UnifiedMLLMForConditionalGeneration(config)
    model.initialise_numbers()
    return model.eval()


def seeing_twin(processor: UnifiedMLLMProcessor) -> UnifiedMLLMForConditionalGeneration:
    """A twin with ImageNet weights, which keep activations in the range that pictures give."""
    model = twin_model(processor)
    model.image_tower.encoder.backbone.load_imagenet(imagenet_file())
    return model
