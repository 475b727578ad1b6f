"""What is kept of an image between questions, and how questions take it up again."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from unifiedmllm_ros.runtime.context import Context, append_all
from unifiedmllm_ros.runtime.engine import Array


class ImageFeatures:
    """What the model keeps of an image: its visual tokens and the latest dialogues about it."""

    def __init__(self, opening: Context, image_id: int, features: Array) -> None:
        """opening: what precedes the image."""
        self._image = image_id, features
        self._begin(opening)

    def _begin(self, opening: Context) -> None:
        latest = opening.fork()
        latest.show(*self._image)
        self._latest = [latest]

    def resume(self, prompts: Sequence[list[int]], opening: Context) -> tuple[Context, int]:
        """Return a context that begins as all prompts do, and how long it will have to be.

        opening: of the engine that runs now; where it is another one, nothing is cached yet.

        The context holds as much of that as any of the latest dialogues has cached. Each
        prompt is longer by at least one id, because the next token needs a forward pass; what one
        prompt alone needs is computed in one pass with it.
        """
        if opening.engine is not self._latest[0].engine:
            self._begin(opening)
        shared = _shared(prompts)
        while shared and prompts[0][shared - 1] == self._image[0]:
            shared -= 1  # an image is computed with an id behind it
        latest = max(self._latest, key=lambda context: context.common(prompts[0]))
        held = min(latest.common(prompts[0]), shared)
        return latest.fork(held), held if len(prompts) == 1 else shared

    def keep(self, dialogues: Sequence[Context]) -> None:
        """Take contexts, which go on to grow, for the latest dialogues about the image."""
        self._latest = list(dialogues)


def _shared(prompts: Sequence[list[int]]) -> int:
    """Return how many leading ids prompts have in common, with one left over in each."""
    most = min(map(len, prompts)) - 1
    first, *others = prompts
    agree = (all(other[place] == first[place] for other in others) for place in range(most))
    return sum(itertools.takewhile(bool, agree))


def resume_all(
    seen: Sequence[ImageFeatures], prompts: Sequence[list[int]], opening: Context
) -> list[tuple[Context, int]]:
    """Return for each prompt a context that it goes on, and how much of it need not be computed
    for this prompt: it is cached, or computed for another prompt about the image.

    seen: the image of each prompt. What several prompts about one image have in common is
    computed once: in the step that appends them where the engine shares prefixes, else here, for
    all images in one pass.
    """
    groups: dict[int, list[int]] = {}
    for place, features in enumerate(seen):
        groups.setdefault(id(features), []).append(place)
    contexts: dict[int, tuple[Context, int]] = {}
    missing: list[tuple[Context, list[int], int]] = []
    for first, *others in groups.values():
        own = [prompts[place] for place in (first, *others)]
        context, shared = seen[first].resume(own, opening)
        contexts[first] = context, context.length
        contexts |= dict.fromkeys(others, (context, shared))
        fits = context.length < shared <= context.length + context.room
        if fits and not context.engine.info.shares_prefixes:
            missing.append((context, own[0][context.length : shared], 1))
    if missing:
        append_all(missing)
    for first, *others in groups.values():
        contexts |= {place: (contexts[place][0].fork(), contexts[place][1]) for place in others}
        seen[first].keep([contexts[place][0] for place in (first, *others)])
    return [contexts[place] for place in range(len(seen))]
