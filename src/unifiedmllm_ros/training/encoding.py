"""A conversation as ids, labels and media: what one training sample is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.data.conversation import Conversation, ConversationError
from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor
from unifiedmllm_ros.representation import TaskCall, parse

IGNORED = -100
FIRST, SECOND = 1, 0


@dataclass(frozen=True)
class Media:
    """What a conversation is about, as the encoders take it.

    image: (1, 3, H, W) float32 in [0, 1]; video: (1, F, 3, H, W) alike; audio: (segments, samples)
    float32 in [-1, 1]; regions: what the region encoder found in the image, in its place.
    """

    image: NDArray[np.float32] | None = None
    video: NDArray[np.float32] | None = None
    audio: NDArray[np.float32] | None = None
    regions: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """How many images there are."""
        return int(self.image is not None or bool(self.regions))


@dataclass(frozen=True)
class Example:
    """One sample. labels: the ids where an answer is to be learnt, IGNORED elsewhere.

    experts: FIRST or SECOND, the half of the experts that the balancing loss gives it to.
    cut: whether its end was cut off.
    """

    id: str
    ids: list[int]
    labels: list[int]
    media: Media
    experts: int
    cut: bool = False


def encode(
    processor: UnifiedMLLMProcessor,
    conversation: Conversation,
    media: Media,
    length: int,
    experts: str = 'auto',
) -> Example:
    """Encode a conversation; what goes beyond `length` tokens is cut off, questions as a whole.

    Raises ConversationError where not even the first question fits.
    """
    segments = 0 if media.audio is None else len(media.audio)
    videos = int(media.video is not None)
    ids = processor.encode_prefix(images=media.images, videos=videos, segments=segments)
    labels = [IGNORED] * len(ids)
    cut = False
    for number, (question, answer) in enumerate(conversation.exchanges()):
        asked = processor.encode_question(question, images=media.images)
        if len(ids) + len(asked) >= length:
            if not number:
                raise ConversationError(
                    f'{conversation.id}: {len(ids) + len(asked)} tokens up to its first answer, '
                    f'batch.length is {length}: raise it, or leave the conversation out'
                )
            cut = True  # a part of a question would have a part of its picture
            break
        said = [*processor.encode_answer(answer), processor.eos_id]
        ids += asked + said
        labels += [IGNORED] * len(asked) + said
    half = half_of(conversation) if experts == 'auto' else FIRST if experts == 'first' else SECOND
    return Example(
        conversation.id, ids[:length], labels[:length], media, half, cut=cut or len(ids) > length
    )


def half_of(conversation: Conversation) -> int:
    """FIRST for a conversation that calls a task, SECOND for one that only answers."""
    calls = (
        isinstance(part, TaskCall)
        for _, answer in conversation.exchanges()
        for part in parse(answer)[0].parts
    )
    return FIRST if any(calls) else SECOND


def learnt(examples: Sequence[Example]) -> int:
    """How many tokens of some samples are learnt."""
    return sum(label != IGNORED for example in examples for label in example.labels[1:])
