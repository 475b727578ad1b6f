"""What an engine does: run the graphs of UnifiedMLLM, whatever the library underneath.

An engine knows arrays, not text: tokens, prompts and the grammar are the decoder's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from unifiedmllm_ros.errors import ConfigError, InstructionError

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EngineInfo:
    """What runs, for logs, diagnostics and provenance.

    backend: 'onnxruntime', 'torch' or 'tensorrt', with its version.
    precision: arithmetic of the graphs, 'fp32', 'fp16', ...
    model: name of the model.
    device: 'cpu', 'cuda:0', ...
    max_length: longest sequence, visual tokens included, that one cache may hold.
    state: what is to be said of it besides: an engine that was built or fell back to less.
    """

    backend: str
    precision: str
    model: str
    device: str
    max_length: int
    state: str = ''


class Cache(Protocol):
    """Keys and values of a sequence that a decoder has seen."""

    @property
    def length(self) -> int:
        """Positions held, visual tokens included."""
        ...

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on; ValueError where there are not that many."""
        ...

    def fork(self) -> Self:
        """Return an independent cache of the same sequence; costs next to nothing."""
        ...


class Engine(Protocol):
    """Runs the graphs. One thread at a time."""

    @property
    def info(self) -> EngineInfo:
        """What runs."""
        ...

    def encode_image(self, pixels: Array) -> Array:
        """Turn pixels [1, 3, H, W] (RGB in 0..1) into visual tokens [N, D]."""
        ...

    def new_cache(self) -> Any:
        """Return a cache of the empty sequence."""
        ...

    def encode_images(self, pixels: Array) -> Array:
        """Turn pixels [B, 3, H, W] (RGB in 0..1) into visual tokens [B, N, D]."""
        ...

    def encode_video(self, frames: Array) -> Array:
        """Turn frames [F, 3, H, W], in order and as many as the model takes, into tokens [N, D].

        Raises ConfigError where the model has no video branch.
        """
        ...

    def encode_audio(self, wave: Array) -> Array:
        """Turn a segment [samples] in -1..1 into tokens [N, D].

        Raises ConfigError where the model has no audio branch.
        """
        ...

    def step(
        self,
        ids: Sequence[int],
        cache: Any,
        features: Array | None = None,
        last: int | None = None,
    ) -> Array:
        """Append visual tokens [F, D], then ids (T of them, at least one) to the cached sequence.

        Returns the logits [T, V] after each of the ids, or [last, V] after the last ones: asking
        for fewer saves the output layer's work on the others. The cache grows by F + T, or stays
        as it was where this raises: InstructionError for a sequence longer than
        `info.max_length`, ModelError where the library failed.
        """
        ...


def check_length(info: EngineInfo, ids: Sequence[int], length: int, last: int | None) -> int:
    """Check a step before an engine runs it; returns how many logits are wanted.

    length: of the sequence after the step. Raises InstructionError where it is too long,
    ValueError for a step without ids and for logits of more ids than there are.
    """
    if not ids:
        raise ValueError('a step needs one token or more')
    wanted = len(ids) if last is None else last
    if not 1 <= wanted <= len(ids):
        raise ValueError(f'logits of the last {wanted} of {len(ids)} ids')
    if length > info.max_length:
        raise InstructionError(
            f'the conversation takes {length} positions, {info.model} has {info.max_length}; '
            'shorten the instruction or begin a new conversation'
        )
    return wanted


def check_medium(
    model: str, medium: str, wanted: tuple[int, ...] | None, found: tuple[int, ...]
) -> None:
    """Raise ConfigError for a branch that a model lacks, ValueError for a wrong size."""
    if wanted is None:
        raise ConfigError(f'{model} has no {medium} branch: export a model that has one')
    if wanted != found:
        raise ValueError(f'{medium} of shape {found}, {model} takes {wanted}')
