"""What writes dialogues about pictures, as the builder of data sees it."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Protocol

from unifiedmllm_ros.cancellation import Cancel
from unifiedmllm_ros.data.grounding import GroundedImage

Exchange = tuple[str, str]


@dataclass(frozen=True)
class Written:
    """One dialogue: (question, answer in the unified representation) in order.

    reason: why there is none, '' where there is one. read, wrote: tokens that a server counted.
    """

    exchanges: tuple[Exchange, ...] = ()
    reason: str = ''
    read: int = 0
    wrote: int = 0


class Writer(Protocol):
    """Writes one dialogue at a time; any number of threads may ask.

    name: who writes, kept with what is written. attempts: how often it is worth asking again
    after an answer that is rejected. threads: how many dialogues at a time.
    """

    name: str
    attempts: int
    threads: int

    def write(
        self, image: GroundedImage, rng: Random, turns: int, split: str, cancel: Cancel
    ) -> Written:
        """A dialogue of `turns` questions about a picture of a split (train, val or test)."""
        ...
