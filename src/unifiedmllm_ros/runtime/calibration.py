"""Examples by which an export sets what it cannot know of the weights alone.

The pictures give the ranges of the vision graph's activations in 8 bits; the dialogues say which
matrices of the decoder bear few bits. They are read from a folder with conversations.jsonl, as
`unifiedmllm data tabletop` writes it: that of the training split, never what is measured on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.errors import ConfigError, ImageError
from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor
from unifiedmllm_ros.runtime.engine import Array

CONVERSATIONS: Final = 'conversations.jsonl'
PICTURES: Final = 32
QUESTIONS: Final = 3
"""Of each picture: others than the first ones of a conversation are much like these."""


@dataclass(frozen=True)
class Exchange:
    """A question and its true answer as token ids; the image's ids are among the question's."""

    question: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True)
class Example:
    """Pixels [1, 3, H, W] (RGB in 0..1), and what is asked about them."""

    pixels: Array
    exchanges: tuple[Exchange, ...]


def read_examples(
    folder: Path, processor: UnifiedMLLMProcessor, pictures: int = PICTURES
) -> tuple[Example, ...]:
    """Read the first `pictures` pictures of a folder's conversations, each once.

    Raises ConversationError for a file that does not hold up, ImageError for a picture that is
    none, ConfigError where there is not one.
    """
    found = tuple(_examples(folder, processor, pictures))
    if not found:
        raise ConfigError(
            f'{folder / CONVERSATIONS}: no conversation about a picture to calibrate with; make '
            'some by unifiedmllm data tabletop --split train'
        )
    return found


def _examples(folder: Path, processor: UnifiedMLLMProcessor, count: int) -> Iterator[Example]:
    from unifiedmllm_ros.data.conversation import read_conversations

    seen: set[str] = set()
    for conversation in read_conversations(folder / CONVERSATIONS):
        image = conversation.image
        if image is None or image in seen:
            continue
        seen.add(image)
        asked = list(conversation.exchanges())[:QUESTIONS]
        exchanges = tuple(_exchange(processor, *pair) for pair in asked)
        yield Example(processor.pixels(_picture(folder / image)), exchanges)
        if len(seen) == count:
            return


def _exchange(processor: UnifiedMLLMProcessor, question: str, answer: str) -> Exchange:
    ids = processor.encode_conversation([(question, None)])
    return Exchange(tuple(ids), (*processor.encode_answer(answer), processor.eos_id))


def _picture(file: Path) -> NDArray[np.uint8]:
    picture = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise ImageError(f'{file}: no picture to calibrate with; make the data again')
    return np.asarray(picture, np.uint8)
