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
from unifiedmllm_ros.errors import ImageError, MissingImageError
from unifiedmllm_ros.masks import Mask
from unifiedmllm_ros.representation import Box, Region

MIN_SIDE = 2
MAX_PIXELS = 100_000_000
"""Smallest side and most pixels of an image, 2x2 up to 100 megapixels."""


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
    rate: frames per second of that video, 0 where it is not known.
    """

    task: str
    argument: str = ''
    image: NDArray[np.uint8] | None = None
    regions: tuple[Region, ...] = ()
    boxes: tuple[PixelBox, ...] = ()
    seed: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    frames: Sequence[NDArray[np.uint8]] = ()
    rate: float = 0.0


@dataclass(frozen=True, eq=False)
class Progress:
    """How far a request is: what is being done, and the share done, in [0, 1], never falling.

    preview: what there is so far, (height, width, 3) uint8 RGB, where an expert shows it.
    """

    phase: str
    fraction: float
    preview: NDArray[np.uint8] | None = None


OnProgress = Callable[[Progress], None]


def unheard(progress: Progress) -> None:
    """The `OnProgress` of a caller that does not listen."""


@dataclass(frozen=True)
class Provenance:
    """Where a result comes from.

    expert: its name in the registry; backend: what ran, 'classical' where nothing was learnt.
    weights: file name and SHA-256 of the weights, '' where there are none.
    parameters: those in effect; duration_ms: wall time of the run.
    device, dtype: where and in what numbers it ran ('cpu', 'float32'); with the seed they decide
    the result.
    notices: what the reader should know, one sentence each: a classical stand-in, boxes or words
    that were left out, an image that a safety checker blacked out.
    """

    expert: str
    backend: str
    weights: str
    seed: int
    parameters: Mapping[str, Any]
    duration_ms: float
    device: str = 'cpu'
    dtype: str = ''
    notices: tuple[str, ...] = ()


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


@dataclass(frozen=True, eq=False)
class VideoResult(Result):
    """An edited or made video: frames (height, width, 3) uint8 RGB, rate in frames per second."""

    frames: tuple[NDArray[np.uint8], ...]
    rate: float


@dataclass(frozen=True, eq=False)
class AudioResult(Result):
    """A sound: samples (n,) float32 in [-1, 1], rate in samples per second."""

    samples: NDArray[np.float32]
    rate: int


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


def check_image(image: NDArray[np.uint8]) -> None:
    """Raise ImageError unless this is (height, width, 3) uint8 of a size that is taken."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f'image is {kind}, not uint8: convert it to 8-bit RGB')
    if image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(
            f'image has shape {image.shape}, not (height, width, 3): convert it to RGB'
        )
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise ImageError(f'image is {width}x{height} pixels, at least {MIN_SIDE}x{MIN_SIDE} needed')
    if height * width > MAX_PIXELS:
        raise ImageError(
            f'image is {width}x{height} pixels, at most {MAX_PIXELS // 10**6} megapixels: shrink it'
        )
