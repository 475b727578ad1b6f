"""Which key frames are edited together, and in what size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Batch:
    """Key frames that are edited together; `new` of them, the last ones, are kept."""

    keys: tuple[int, ...]
    new: int


def batched(keys: Sequence[int], most: int) -> list[Batch]:
    """Return batches of at most `most` key frames.

    Every batch after the first begins with the first key frame and the last of the batch before,
    so that they look alike; what they become there is not used.
    """
    batches = [Batch(tuple(keys[:most]), len(keys[:most]))]
    done = most
    while done < len(keys):
        new = tuple(keys[done : done + most - 2])
        batches.append(Batch((keys[0], keys[done - 1], *new), len(new)))
        done += len(new)
    return batches


def seen_size(width: int, height: int, short_side: int, step: int) -> tuple[int, int]:
    """Return (width, height) in which frames are edited: multiples of `step`, as near as can be."""
    scale = short_side / min(width, height)
    return (
        max(round(width * scale / step), 1) * step,
        max(round(height * scale / step), 1) * step,
    )
