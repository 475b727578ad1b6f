"""A sequence that the engine has seen: its ids beside the keys and values of the cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    def engine(self) -> Engine:
        """What holds the sequence."""
        return self._engine

    @property
    def length(self) -> int:
        """Number of positions."""
        return len(self._ids)

    @property
    def room(self) -> int:
        """Positions that may still be appended."""
        return self._engine.info.max_length - self.length

    @property
    def cache(self) -> Cache:
        """Keys and values of the sequence."""
        return self._cache

    def show(self, image_id: int, features: Array) -> None:
        """Set the visual tokens [F, D] that runs of F `<image>` ids stand for from now on."""
        self._image = image_id, features

    def append(self, ids: Sequence[int], last: int | None = None) -> Array:
        """Append ids; returns the logits [T, V] after each of those behind the last image.

        last: after the last ones alone. Visual tokens and the ids behind them are one forward
        pass. Raises ValueError for an image that is not whole or ends the ids.
        """
        runs = list(self._runs(ids))
        for place, (features, run) in enumerate(runs):
            final = place + 1 == len(runs)
            logits = self._engine.step(run, self._cache, features, last if final else 1)
            if self._image is not None and features is not None:
                self._ids += [self._image[0]] * len(features)
            self._ids += run
        return logits

    def append_image(self, image_id: int, features: Array, ids: Sequence[int]) -> Array:
        """Append visual tokens [F, D], then ids; returns the logits [T, V] after each id."""
        self.show(image_id, features)
        return self.append([image_id] * len(features) + list(ids))

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on; ValueError where there are not that many."""
        self._cache.truncate(length)
        del self._ids[length:]

    def common(self, ids: Sequence[int]) -> int:
        """Return how many leading ids of the sequence agree with `ids`."""
        pairs = enumerate(zip(self._ids, ids, strict=False))
        shorter = min(len(self._ids), len(ids))
        return next((place for place, (mine, other) in pairs if mine != other), shorter)

    def fork(self, length: int | None = None) -> Self:
        """Return an independent context of the first `length` positions, by default of all."""
        forked = type(self)(self._engine, self._ids, self._cache.fork())
        forked._image = self._image
        if length is not None:
            forked.truncate(length)
        return forked

    def _runs(self, ids: Sequence[int]) -> Iterator[tuple[Array | None, list[int]]]:
        """Cut ids into the image that begins each run, if one does, and its other ids."""
        rest = list(ids)
        while rest:
            features = None
            if self._image is not None and rest[0] == self._image[0]:
                features = self._image[1]
                shown, rest = rest[: len(features)], rest[len(features) :]
                if shown != [self._image[0]] * len(features) or not rest:
                    raise ValueError(f'an image takes {len(features)} ids and one behind them')
            end = len(rest)
            if self._image is not None and self._image[0] in rest:
                end = rest.index(self._image[0])
            yield features, rest[:end]
            rest = rest[end:]
