"""What the perceiver asks of a model, whatever it is made of.

An engine running UnifiedMLLM's graphs, an adapter for somebody else's grounding model, a remote
server: each gives an answer in the unified representation, as a stream of text. This module knows
no framework.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from unifiedmllm_ros.cancellation import Cancel, check, never
from unifiedmllm_ros.errors import UnifiedMLLMError

Features: TypeAlias = Any
"""What a model remembers of an image; only the model that made it looks inside."""


@dataclass(frozen=True)
class ModelInfo:
    """What runs, for logs, diagnostics and provenance.

    state: what is to be said of the engine besides, such as that it fell back to less.
    """

    name: str
    backend: str
    precision: str = 'float32'
    device: str = 'cpu'
    state: str = ''


@dataclass(frozen=True)
class Turn:
    """One earlier question, as the user put it, and its answer in the unified representation."""

    question: str
    answer: str


@dataclass(frozen=True)
class Conversation:
    """A question about the image and the turns before it, oldest first.

    Questions are what the user typed or said, not escaped: the model escapes them before it
    tokenises them.
    """

    question: str
    history: tuple[Turn, ...] = ()


@dataclass(frozen=True)
class TextChunk:
    """The next piece of an answer in the unified representation.

    text: cut anywhere, except that a piece with a confidence holds exactly one `</box>`.
    confidence: of that box, in [0, 1]; None where the piece closes no box or it is not known.
    """

    text: str
    confidence: float | None = None


@dataclass(frozen=True, eq=False)
class Question:
    """One of several questions that are asked together, about images that were looked at."""

    features: Features
    conversation: Conversation
    cancel: Cancel = never


@dataclass(frozen=True)
class Piece:
    """What comes of one of several questions, by its place among them.

    chunk: the next piece of its answer; None at its end. error: why the answer ends before it is
    whole, None where it does not.
    """

    place: int
    chunk: TextChunk | None = None
    error: UnifiedMLLMError | None = None


@runtime_checkable
class MultimodalModel(Protocol):
    """A model that answers questions about an image.

    max_tokens: the longest answer, in the model's tokens; may be changed between questions. A
    longer one is brought to its end so that it stays grammatical.
    """

    max_tokens: int

    @property
    def info(self) -> ModelInfo:
        """What runs."""
        ...

    def encode(self, image: npt.NDArray[np.uint8]) -> Features:
        """Look at an image, (height, width, 3) RGB of any size, for any number of questions."""
        ...

    def stream(
        self, features: Features, conversation: Conversation, cancel: Cancel
    ) -> Iterator[TextChunk]:
        """Answer piece by piece.

        `features` stays usable for the next question, also after a cancel. Raises Cancelled within
        one decoding step once `cancel()` is True, ModelError where the model's numbers are unusable
        (NaN), InstructionError where the conversation does not fit the model's context.
        """
        ...


@runtime_checkable
class BatchModel(Protocol):
    """A MultimodalModel that looks at several images, and answers several questions, at once."""

    def encode_all(self, images: Sequence[npt.NDArray[np.uint8]]) -> Sequence[Features]:
        """Look at images, one or more; see MultimodalModel.encode."""
        ...

    def stream_all(self, questions: Sequence[Question]) -> Iterator[Piece]:
        """Answer questions piece by piece, in whatever order the pieces come.

        What MultimodalModel.stream raises about one question is a piece here and ends that answer
        alone. Raises what concerns all of them.
        """
        ...


def encode_all(model: MultimodalModel, images: Sequence[npt.NDArray[np.uint8]]) -> list[Features]:
    """Look at images, together where the model can."""
    if isinstance(model, BatchModel):
        return list(model.encode_all(images))
    return [model.encode(image) for image in images]


def stream_all(model: MultimodalModel, questions: Sequence[Question]) -> Iterator[Piece]:
    """Answer questions, together where the model can, else one after the other."""
    if isinstance(model, BatchModel):
        yield from model.stream_all(questions)
        return
    for place, one in enumerate(questions):
        try:
            for chunk in model.stream(one.features, one.conversation, one.cancel):
                yield Piece(place, chunk)
                check(one.cancel, 'the question')
        except UnifiedMLLMError as error:
            yield Piece(place, error=error)
        else:
            yield Piece(place)
