"""What the perceiver asks of a model, whatever it is made of.

An engine running UnifiedMLLM's graphs, an adapter for somebody else's grounding model, a remote
server: each gives an answer in the unified representation, as a stream of text. This module knows
no framework.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from unifiedmllm_ros.cancellation import Cancel

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
