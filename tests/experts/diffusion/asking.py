"""What tests ask of experts of pictures, and what they look at of the answers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.cancellation import Cancel, never
from unifiedmllm_ros.experts.base import Expert, Progress, Request, Result
from unifiedmllm_ros.representation import Box, Region
from unifiedmllm_ros.router import pixel_boxes

SEED = 7
STEPS = 3


def image(height: int = 64, width: int = 64) -> NDArray[np.uint8]:
    """A picture without two equal neighbourhoods."""
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)


def request(task: str, argument: str = 'a red mug', **given: Any) -> Request:
    """A request with its boxes in pixels of its image, as the router makes it."""
    picture, regions = given.get('image'), given.get('regions', ())
    if picture is not None:
        given.setdefault('boxes', pixel_boxes(regions, *picture.shape[:2]))
    return Request(task, argument, **{'seed': SEED, **given})


def region(phrase: str, *boxes: tuple[float, float, float, float]) -> Region:
    """A phrase with its boxes."""
    return Region(phrase, tuple(Box(*corners) for corners in boxes))


def run(expert: Expert, asked: Request, cancel: Cancel = never) -> Any:
    """Run without listening."""
    return expert.run(asked, lambda progress: None, cancel)


def pixels(result: Result) -> NDArray[np.uint8]:
    """All images or frames of a result."""
    made = getattr(result, 'images', None) or getattr(result, 'frames', None)
    assert made
    return np.stack(made)


class Heard(list[Progress]):
    """An `OnProgress` that remembers, and a `Cancel` once so many steps were denoised."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.stop_after = stop_after

    def __call__(self, progress: Progress) -> None:
        self.append(progress)

    @property
    def steps(self) -> int:
        """How many steps are over; the first word of the phase only announces it."""
        return max(sum(one.phase == 'denoise' for one in self) - 1, 0)

    def cancel(self) -> bool:
        """Whether to stop; not before denoising began."""
        begun = any(one.phase == 'denoise' for one in self)
        return begun and self.stop_after is not None and self.steps >= self.stop_after
