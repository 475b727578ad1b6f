"""Cuts a step into runs that fit a decoder engine's profile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from unifiedmllm_ros.runtime.engine import Row
from unifiedmllm_ros.runtime.tensorrt_build import DecoderProfile


@dataclass
class Room:
    """What one run still takes: ids, visual tokens, logits."""

    ids: int
    visual: int
    logits: int

    @classmethod
    def of(cls, profile: DecoderProfile) -> Room:
        """Return the room of an empty run."""
        return cls(profile.ids, profile.features, profile.rows)

    def fill(self, part: Row) -> None:
        """Take a part in."""
        self.ids -= len(part.ids)
        self.visual -= part.visual
        self.logits -= part.wanted


def runs(rows: Sequence[Row], profile: DecoderProfile) -> Iterator[list[tuple[int, Row]]]:
    """Cut rows into runs: parts of them, each with the place of its row, in order.

    Logits are wanted of the same ids as before; a run may have none. Raises ValueError for a
    picture that no run takes.
    """
    room, run = Room.of(profile), list[tuple[int, Row]]()
    for place, row in enumerate(rows):
        start = 0
        while start < len(row.ids):
            part = _part(row, start, room)
            if part is None and not run:
                most = max(len(features) for _, features in row.pictures)
                raise ValueError(
                    f'{most} visual tokens in one step, the engine was built for {profile.features}'
                )
            if part is None:
                yield run
                room, run = Room.of(profile), []
                continue
            room.fill(part)
            run.append((place, part))
            start += len(part.ids)
            if start < len(row.ids):  # a sequence grows once a run
                yield run
                room, run = Room.of(profile), []
    yield run


def _part(row: Row, start: int, room: Room) -> Row | None:
    """Return what fits of a row from its id `start` on, None where nothing does."""
    count = len(row.ids)
    loud = max(count - row.wanted, start)  # where the wanted logits begin
    end = min(count, start + room.ids, loud + room.logits)
    pictures, visual = [], 0
    for before, features in row.pictures:
        if not start <= before < end:
            continue
        visual += len(features)
        if visual > room.visual:
            end = before
            break
        pictures.append((before - start, features))
    if end <= start:
        return None
    return Row(row.ids[start:end], row.cache, pictures, max(end - loud, 0))
