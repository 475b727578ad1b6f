"""Decoder graphs of manifests of format 1, which return a cache that has grown.

They were exported before the cache was written in place; `unifiedmllm export` makes them anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from unifiedmllm_ros.runtime.engine import Array
from unifiedmllm_ros.runtime.manifest import Manifest
from unifiedmllm_ros.runtime.onnx_session import failed

NAMES: Final = (
    ('input_ids', 'features', 'past_k', 'past_v'),
    ('logits', 'present_k', 'present_v'),
)


class GrownCache:
    """Keys and values [layers, 1, heads, length, head_dim], replaced as a whole by each step.

    The graph returns the grown arrays and they are never written to, so forks share them.
    """

    def __init__(self, keys: Array, values: Array) -> None:
        self.keys = keys
        self.values = values

    @property
    def length(self) -> int:
        """Positions held."""
        return int(self.keys.shape[3])

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on."""
        if not 0 <= length <= self.length:
            raise ValueError(f'cannot truncate a cache of {self.length} positions to {length}')
        if length < self.length:
            self.keys = np.ascontiguousarray(self.keys[:, :, :, :length])
            self.values = np.ascontiguousarray(self.values[:, :, :, :length])

    def fork(self) -> GrownCache:
        """Return a cache of the same sequence that goes its own way."""
        return GrownCache(self.keys, self.values)


class GrownDecoder:
    """Runs a decoder.onnx of format 1."""

    def __init__(self, session: Any, manifest: Manifest, provider: str) -> None:
        self._session = session
        self._manifest = manifest
        self._provider = provider
        self._nothing = np.zeros((1, 0, manifest.hidden), np.float32)

    @staticmethod
    def names(manifest: Manifest) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the inputs and outputs that the graph must have."""
        return NAMES

    def new_cache(self) -> GrownCache:
        """Return a cache of the empty sequence."""
        shape = self._manifest
        empty = np.zeros((shape.layers, 1, shape.kv_heads, 0, shape.head_dim), np.float32)
        return GrownCache(empty, empty)

    def step(
        self, ids: Sequence[int], cache: GrownCache, features: Array | None, last: int
    ) -> Array:
        """Append visual tokens (F, D), then ids; returns the logits of the last `last` ids."""
        feeds = {
            'input_ids': np.asarray([ids], np.int64),
            'features': self._nothing if features is None else features[None],
            'past_k': cache.keys,
            'past_v': cache.values,
        }
        try:
            logits, keys, values = self._session.run(None, feeds)
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise failed(error, 'decoder', self._provider) from error
        cache.keys, cache.values = keys, values
        return np.asarray(logits[0, -last:])
