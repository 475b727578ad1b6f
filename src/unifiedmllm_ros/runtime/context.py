"""A sequence that the engine has seen: its ids beside the keys and values of the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from unifiedmllm_ros.runtime.engine import Array, Cache, Engine


class Context:
    """Token ids (an `<image>` id for every visual token) and the cache that belongs to them."""

    def __init__(self, engine: Engine, ids: Sequence[int] = (), cache: Cache | None = None) -> None:
        self._engine = engine
        self._ids = list(ids)
        self._cache: Cache = engine.new_cache() if cache is None else cache
        self._image: tuple[int, Array] | None = None

    @property
    def ids(self) -> tuple[int, ...]:
        """The sequence so far."""
        return tuple(self._ids)

    @property
    def length(self) -> int:
        """Number of positions."""
        return len(self._ids)

    @property
    def room(self) -> int:
        """Positions that may still be appended."""
        return self._engine.info.max_length - self.length

    def append(self, ids: Sequence[int]) -> Array:
        """Append ids; returns the logits [T, V] after each of the last run of them.

        `<image>` ids stand for the visual tokens of the image that was appended first.
        """
        rest = list(ids)
        while self._image is not None and self._image[0] in rest:
            image_id, features = self._image
            start = rest.index(image_id)
            if start:
                self._step(rest[:start])
            rest = rest[start + len(features) :]
            end = rest.index(image_id) if image_id in rest else len(rest)
            logits = self.append_image(image_id, features, rest[:end])
            rest = rest[end:]
        return self._step(rest) if rest else logits

    def append_image(self, image_id: int, features: Array, ids: Sequence[int]) -> Array:
        """Append visual tokens [F, D], then ids; returns the logits [T, V] after each id."""
        logits = self._engine.step(ids, self._cache, features)
        self._ids += [image_id] * len(features) + list(ids)
        self._image = image_id, features
        return logits

    def _step(self, ids: Sequence[int]) -> Array:
        logits = self._engine.step(ids, self._cache)
        self._ids += ids
        return logits

    def common(self, ids: Sequence[int]) -> int:
        """Return how many leading ids of the sequence agree with `ids`."""
        pairs = enumerate(zip(self._ids, ids, strict=False))
        shorter = min(len(self._ids), len(ids))
        return next((place for place, (mine, other) in pairs if mine != other), shorter)

    def fork(self, length: int | None = None) -> Self:
        """Return an independent context of the first `length` positions, by default of all."""
        cache = self._cache.fork()
        kept = self._ids if length is None else self._ids[:length]
        cache.truncate(len(kept))
        copy = type(self)(self._engine, kept, cache)
        copy._image = self._image
        return copy
