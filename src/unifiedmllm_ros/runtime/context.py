"""A sequence that the engine has seen: its ids beside the keys and values of the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from unifiedmllm_ros.runtime.engine import Array, Cache, Engine, Row


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
        """Append ids; returns the logits [T, V] after each one that is no `<image>`.

        last: after the last ones alone. Raises ValueError for an image that is not whole or ends
        the ids.
        """
        return append_all([(self, ids, last)])[0]

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

    def _row(self, ids: Sequence[int], last: int | None) -> Row:
        """Return what a step gets for ids: visual tokens in the place of images."""
        if self._image is None or self._image[0] not in ids:
            return Row(ids, self._cache, last=last)
        image_id, features = self._image
        words: list[int] = []
        pictures: list[tuple[int, Array]] = []
        place = 0
        while place < len(ids):
            if ids[place] != image_id:
                words.append(ids[place])
                place += 1
                continue
            shown = list(ids[place : place + len(features)])
            place += len(features)
            if shown != [image_id] * len(features) or place >= len(ids):
                raise ValueError(f'an image takes {len(features)} ids and one behind them')
            pictures.append((len(words), features))
        return Row(words, self._cache, pictures, last)


def append_all(parts: Sequence[tuple[Context, Sequence[int], int | None]]) -> list[Array]:
    """Append ids to contexts of one engine, together; see Context.append."""
    rows = [context._row(ids, last) for context, ids, last in parts]
    logits = parts[0][0].engine.step_all(rows)
    for context, ids, _ in parts:
        context._ids += ids
    return logits
