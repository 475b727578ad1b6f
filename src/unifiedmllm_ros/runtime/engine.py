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
    shares_prefixes: whether a step computes once what its rows begin with alike; else callers do.
    state: what is to be said of it besides: an engine that was built or fell back to less.
    """

    backend: str
    precision: str
    model: str
    device: str
    max_length: int
    state: str = ''
    shares_prefixes: bool = False


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


@dataclass(frozen=True, eq=False)
class Row:
    """What a step appends to one sequence: ids, at least one, and visual tokens among them.

    pictures: visual tokens [F, D], each with the number of ids that precede them.
    last: how many of the ids get logits, the last ones; by default all. Asking for fewer saves
    the output layer's work on the others.
    """

    ids: Sequence[int]
    cache: Any
    pictures: Sequence[tuple[int, Array]] = ()
    last: int | None = None

    @property
    def new(self) -> int:
        """Positions that are appended."""
        return len(self.ids) + self.visual

    @property
    def visual(self) -> int:
        """Those of them that are visual tokens."""
        return sum(len(features) for _, features in self.pictures)

    @property
    def wanted(self) -> int:
        """Logits that are given."""
        return len(self.ids) if self.last is None else self.last

    @classmethod
    def after(
        cls, features: Array | None, ids: Sequence[int], cache: Any, last: int | None = None
    ) -> Self:
        """Return a row of visual tokens, if any, and ids behind them."""
        return cls(ids, cache, () if features is None else ((0, features),), last)


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
        """Append visual tokens [F, D] and ids behind them to one sequence; see step_all."""
        ...

    def step_all(self, rows: Sequence[Row]) -> list[Array]:
        """Append to sequences, all in one run of the decoder or as few as they fit into.

        Returns for each row the logits [last, V] after the last of its ids. Each cache grows by
        what its row has, or all stay as they were where this raises: InstructionError for a
        sequence longer than `info.max_length`, ModelError where the library failed.
        """
        ...


def check_rows(info: EngineInfo, rows: Sequence[Row]) -> None:
    """Check a step before an engine runs it.

    Raises InstructionError where a sequence becomes too long, ValueError for a row without ids,
    for logits of more ids than there are, and for no rows or two of the same cache.
    """
    if not rows or len({id(row.cache) for row in rows}) < len(rows):
        raise ValueError('a step needs rows, each with a cache of its own')
    for row in rows:
        if not row.ids:
            raise ValueError('a step needs one token or more')
        if not 1 <= row.wanted <= len(row.ids):
            raise ValueError(f'logits of the last {row.wanted} of {len(row.ids)} ids')
        length = row.cache.length + row.new
        if length > info.max_length:
            raise InstructionError(
                f'the conversation takes {length} positions, {info.model} has {info.max_length}; '
                'shorten the instruction or begin a new conversation'
            )


def check_medium(
    model: str, medium: str, wanted: tuple[int, ...] | None, found: tuple[int, ...]
) -> None:
    """Raise ConfigError for a branch that a model lacks, ValueError for a wrong size."""
    if wanted is None:
        raise ConfigError(f'{model} has no {medium} branch: export a model that has one')
    if wanted != found:
        raise ValueError(f'{medium} of shape {found}, {model} takes {wanted}')
