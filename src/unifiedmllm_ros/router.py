"""From task calls to experts: the router checks a call, turns regions to pixels, and runs it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.cancellation import Cancel, check, never
from unifiedmllm_ros.errors import (
    ExpertError,
    ImageError,
    MissingArgumentError,
    MissingImageError,
    MissingRegionError,
    UnknownTaskError,
)
from unifiedmllm_ros.experts.base import (
    OnProgress,
    PixelBox,
    Progress,
    Request,
    Result,
    check_image,
    unheard,
)
from unifiedmllm_ros.experts.registry import ExpertRegistry
from unifiedmllm_ros.experts.residency import OnPosition, unheard_position
from unifiedmllm_ros.representation import TASKS, Argument, Box, Region, TaskCall, TaskSpec
from unifiedmllm_ros.session import Session


class Router:
    """Runs task calls on the experts of a registry; knows nothing of any model."""

    def __init__(self, registry: ExpertRegistry) -> None:
        self.registry = registry

    @classmethod
    def from_file(cls, path: Path | None = None) -> Router:
        """Return the router of a configuration file, by default the package's own."""
        return cls(ExpertRegistry.from_file(path))

    def run(
        self,
        call: TaskCall,
        image: NDArray[np.uint8] | None = None,
        *,
        frames: Sequence[NDArray[np.uint8]] = (),
        rate: float = 0.0,
        session: Session | None = None,
        seed: int = 0,
        parameters: Mapping[str, Any] | None = None,
        expert: str = '',
        progress: OnProgress = unheard,
        on_position: OnPosition = unheard_position,
        cancel: Cancel = never,
    ) -> Result:
        """Run one call on an image, (height, width, 3) uint8 RGB, where the task needs one.

        frames: of a video, those after `image`, which is its first; rate: its frames per second.
        session: what was seen and made before: the call works on its current picture and, where it
        needs regions and has none, on those spoken of last; what comes of it is remembered there.
        expert: the name of one that does such tasks, by default the one bound to the task.
        on_position: hears how many requests are before this one on its expert's device.

        Raises UnknownTaskError, MissingArgumentError, MissingRegionError, MissingImageError,
        ImageError and ExpertNotInstalledError before anything runs; ExpertError, ModelFileError or
        Cancelled from the expert.
        """
        if session is not None:
            if image is not None:
                session.see(image, frames, rate)
            call = session.completed(call)
            image, frames, rate = session.image, session.frames, session.rate
        request = make_request(
            call, image, frames=frames, rate=rate, seed=seed, parameters=parameters
        )
        check(cancel, f'task {call.task}')
        result = self.registry.run(
            request, progress=progress, on_position=on_position, cancel=cancel, name=expert
        )
        if session is not None:
            session.take(call, result)
        return result

    def run_all(
        self,
        calls: Iterable[TaskCall],
        image: NDArray[np.uint8] | None = None,
        *,
        session: Session | None = None,
        seed: int = 0,
        progress: OnProgress = unheard,
        cancel: Cancel = never,
    ) -> tuple[Result, ...]:
        """Run calls one after the other, each on what the ones before it made of the image.

        `progress` covers all of them. Raises as `run` does.
        """
        waiting, session = tuple(calls), session or Session()
        results: list[Result] = []
        for index, call in enumerate(waiting):
            share = _Share(progress, index, len(waiting))
            results.append(
                self.run(call, image, session=session, seed=seed, progress=share, cancel=cancel)
            )
        return tuple(results)

    def close(self) -> None:
        """Unload all experts."""
        self.registry.close()


class _Share:
    """The progress of one call as a share of the progress of all."""

    def __init__(self, heard: OnProgress, index: int, count: int) -> None:
        self._heard, self._index, self._count = heard, index, count

    def __call__(self, progress: Progress) -> None:
        whole = (self._index + progress.fraction) / self._count
        self._heard(Progress(progress.phase, whole, progress.preview))


def make_request(
    call: TaskCall,
    image: NDArray[np.uint8] | None,
    *,
    frames: Sequence[NDArray[np.uint8]] = (),
    rate: float = 0.0,
    seed: int = 0,
    parameters: Mapping[str, Any] | None = None,
) -> Request:
    """Check a call and return what its expert is asked; raises as `Router.run` does."""
    spec = _spec(call)
    _check_regions(call, spec)
    if spec.argument is Argument.REQUIRED and not call.argument.strip():
        raise MissingArgumentError(
            f'task {call.task!r} needs an argument ({spec.description}): say what is to be done'
        )
    if spec.image and image is None:
        raise MissingImageError(
            f'task {call.task!r} works on an image and there is none: give one with the call'
        )
    _check_images(image, frames)
    boxes = () if image is None else pixel_boxes(call.regions, *image.shape[:2])
    return Request(
        call.task, call.argument, image, call.regions, boxes, seed, parameters or {}, frames, rate
    )


def _spec(call: TaskCall) -> TaskSpec:
    if call.task not in TASKS:
        raise UnknownTaskError(
            f'task {call.task!r} is unknown: one of {", ".join(TASKS)}, or add it with '
            'register_task()'
        )
    return TASKS[call.task]


def _check_images(image: NDArray[np.uint8] | None, frames: Sequence[NDArray[np.uint8]]) -> None:
    if image is not None:
        check_image(image)
    elif len(frames):
        raise MissingImageError('frames of a video were given without its first one: give it')
    for index, frame in enumerate(frames, start=1):
        check_image(frame)
        if image is not None and frame.shape != image.shape:
            raise ImageError(
                f'frame {index} of the video is {frame.shape[1]}x{frame.shape[0]} and the first '
                f'one {image.shape[1]}x{image.shape[0]}: make them one size'
            )


def _check_regions(call: TaskCall, spec: TaskSpec) -> None:
    fewest, most = spec.regions
    if len(call.regions) < fewest:
        raise MissingRegionError(
            f'task {call.task!r} needs {fewest} or more regions and has {len(call.regions)}: '
            'say where, as <p>phrase</p><box>[x1, y1, x2, y2]</box>'
        )
    if most is not None and len(call.regions) > most:
        raise ExpertError(
            f'task {call.task!r} takes at most {most} regions and has {len(call.regions)}: '
            'leave them out'
        )


def pixel_boxes(regions: Iterable[Region], height: int, width: int) -> tuple[PixelBox, ...]:
    """Return every box of the regions in pixels of an image of this size, in order."""
    return tuple(
        pixel_box(region.phrase, box, height, width) for region in regions for box in region.boxes
    )


def pixel_box(phrase: str, box: Box, height: int, width: int) -> PixelBox:
    """Return a box in pixels; one narrower than a pixel is widened to one, inside the image."""
    left, top, right, bottom = box.pixels(width, height)
    left, right = _at_least_one(left, right, width)
    top, bottom = _at_least_one(top, bottom, height)
    return PixelBox(phrase, box, left, top, right, bottom)


def _at_least_one(low: float, high: float, size: int) -> tuple[float, float]:
    if high - low >= 1.0:
        return low, high
    low = min(max((low + high - 1.0) / 2, 0.0), size - 1.0)
    return low, low + 1.0
