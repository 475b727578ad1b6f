"""What every expert is and speaks: requests, results, progress, provenance.

An expert is a class whose constructor takes `name`, `weights` and its defaults from
`config/experts.yaml`. The constructor is cheap: heavy libraries and weights come with `load()`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.cancellation import Cancel
from unifiedmllm_ros.errors import MissingImageError
from unifiedmllm_ros.masks import Mask
from unifiedmllm_ros.representation import Box, Region


@dataclass(frozen=True)
class PixelBox:
    """One instance: its phrase, its box in the response, and that box in pixels of the image.

    left, top, right, bottom: edges in pixels, pixel i reaching from i to i + 1; never outside the
    image, at least one pixel wide and high.
    """

    phrase: str
    box: Box
    left: float
    top: float
    right: float
    bottom: float

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom)."""
        return self.left, self.top, self.right, self.bottom


@dataclass(frozen=True, eq=False)
class Request:
    """What an expert is asked to do; the router has checked that the task's parts are there.

    argument: the call's text: instruction, prompt or note; plain text.
    image: (height, width, 3) uint8 RGB, or None for tasks that make something from text alone.
    regions: the call's regions as they stand in the response.
    boxes: the same in pixels of `image`, one for each instance, in the regions' order.
    seed: of everything random. parameters: override the expert's defaults for this request.
    frames: of a video, those that follow `image`, its first, in the same form and size.
    """

    task: str
    argument: str = ''
    image: NDArray[np.uint8] | None = None
    regions: tuple[Region, ...] = ()
    boxes: tuple[PixelBox, ...] = ()
    seed: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    frames: Sequence[NDArray[np.uint8]] = ()


@dataclass(frozen=True)
class Progress:
    """How far a request is: what is being done, and the share done, in [0, 1], never falling."""

    phase: str
    fraction: float


OnProgress = Callable[[Progress], None]


def unheard(progress: Progress) -> None:
    """The `OnProgress` of a caller that does not listen."""


@dataclass(frozen=True)
class Provenance:
    """Where a result comes from.

    expert: its name in the registry; backend: what ran, 'classical' where nothing was learnt.
    weights: file name and SHA-256 of the weights, '' where there are none.
    parameters: those in effect; duration_ms: wall time of the run.
    """

    expert: str
    backend: str
    weights: str
    seed: int
    parameters: Mapping[str, Any]
    duration_ms: float


@dataclass(frozen=True, eq=False)
class Result:
    """What an expert gives back, with where it comes from."""

    provenance: Provenance


@dataclass(frozen=True, eq=False)
class SegmentationResult(Result):
    """One mask for each box of the request, in the same order."""

    masks: tuple[Mask, ...]


@dataclass(frozen=True, eq=False)
class VideoSegmentationResult(Result):
    """For each frame, the first included, one mask for each box of the request, in their order.

    A mask is empty where its object is not seen.
    """

    frames: tuple[tuple[Mask, ...], ...]


@dataclass(frozen=True, eq=False)
class ImageResult(Result):
    """Edited or made images, each (height, width, 3) uint8 RGB."""

    images: tuple[NDArray[np.uint8], ...]


@runtime_checkable
class Expert(Protocol):
    """A system that does one kind of task."""

    name: str

    def load(self) -> None:
        """Get ready to run; nothing to do where it is loaded.

        Raises ModelFileError for missing, damaged or foreign weights, MissingExtraError for a
        missing library.
        """
        ...

    def run(self, request: Request, progress: OnProgress, cancel: Cancel) -> Result:
        """Do the work. Raises Cancelled within one step once `cancel()` is True, or ExpertError."""
        ...

    def unload(self) -> None:
        """Give the memory back; `load()` may follow."""
        ...


def needed_image(request: Request, name: str) -> NDArray[np.uint8]:
    """Return the image of a request to the expert `name`. Raises MissingImageError without one."""
    if request.image is None:
        raise MissingImageError(f'expert {name!r} needs an image and got none: give one')
    return request.image
