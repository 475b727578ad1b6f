"""Captions: what is on the table, in words with numbers, or thing by thing with boxes.

Both go from left to right. Nothing is said about scenes with things that are hardly seen.
"""

from __future__ import annotations

from random import Random

from unifiedmllm_ros.representation import Region, Response
from unifiedmllm_ros.tabletop.asked import Asked
from unifiedmllm_ros.tabletop.lexicon import article, plural
from unifiedmllm_ros.tabletop.record import canonical_box
from unifiedmllm_ros.tabletop.referring import Seen, View, left_to_right

MOST_GROUNDED = 6
"""Things that a caption with boxes lists at most."""


def caption(view: View, rng: Random, split: str) -> Asked | None:
    """What is to be seen; with boxes one time in three."""
    seen = left_to_right(view.referable)
    if len(seen) < len(view.seen):
        return None
    if seen and len(seen) <= MOST_GROUNDED and rng.random() < 0.35:
        regions = tuple(Region(s.entry.short, (canonical_box(s.record.box),)) for s in seen)
        answer = Response(regions)
        return Asked('caption_ground', {}, seen, task='caption', answer=answer)
    return Asked('caption', {}, task='caption', answer=Response((sentence(seen),)))


def sentence(seen: tuple[Seen, ...]) -> str:
    """Kinds with their numbers, in the order of the leftmost of each."""
    counts: dict[str, int] = {}
    for one in seen:
        counts[one.entry.kind] = counts.get(one.entry.kind, 0) + 1
    said = [article(k) if n == 1 else f'{n} {plural(k)}' for k, n in counts.items()]
    if not said:
        return 'The table is empty.'
    return f'I see {said[0] if len(said) == 1 else ", ".join(said[:-1]) + " and " + said[-1]}.'
