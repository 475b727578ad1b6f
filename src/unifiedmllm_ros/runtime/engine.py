"""What an engine does: run the graphs of UnifiedMLLM, whatever the library underneath.

An engine knows arrays, not text: tokens, prompts and the grammar are the decoder's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EngineInfo:
    """What runs, for logs, diagnostics and provenance.

    backend: 'onnxruntime', 'torch' or 'tensorrt', with its version.
    precision: arithmetic of the graphs, 'fp32', 'fp16', ...
    model: name of the model.
    device: 'cpu', 'cuda:0', ...
    max_length: longest sequence, visual tokens included, that one cache may hold.
    """

    backend: str
    precision: str
    model: str
    device: str
    max_length: int


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

    def step(self, ids: Sequence[int], cache: Any, features: Array | None = None) -> Array:
        """Append visual tokens [F, D], then ids (T of them, at least one) to the cached sequence.

        Returns the logits [T, V] after each of the ids. The cache grows by F + T, or stays as it
        was where this raises: InstructionError for a sequence longer than `info.max_length`,
        ModelError where the library failed.
        """
        ...
