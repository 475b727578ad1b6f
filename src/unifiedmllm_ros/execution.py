"""What an answer calls for, carried out by the router's experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.answer import Failure
from unifiedmllm_ros.cancellation import Cancel
from unifiedmllm_ros.errors import Cancelled, UnifiedMLLMError
from unifiedmllm_ros.experts.base import OnProgress, Result, SegmentationResult
from unifiedmllm_ros.masks import Mask
from unifiedmllm_ros.representation import Region, Response, TaskCall
from unifiedmllm_ros.router import Router
from unifiedmllm_ros.session import Session

# Tasks that leave the picture as it is.
_KEEPS = ('seg', 'vidseg', 'audgen')


class Execution:
    """Carries out what a response calls for, and keeps what comes of it."""

    def __init__(
        self,
        router: Router | None,
        image: NDArray[np.uint8],
        session: Session | None,
        seed: int,
        on_progress: OnProgress,
        cancel: Cancel,
    ) -> None:
        self.results: list[Result] = []
        self.calls: list[TaskCall] = []
        self.failures: list[Failure] = []
        self._masks: list[tuple[int, Mask]] = []
        self._router = router
        self._image = image
        self._session = session or Session()
        if session is None:
            self._session.see(image)
        self._seed = seed
        self._on_progress = on_progress
        self._cancel = cancel

    @property
    def masks(self) -> tuple[Mask, ...]:
        """The masks that lie in the image, in the order of their boxes in the response."""
        return tuple(mask for _, mask in sorted(self._masks, key=lambda one: one[0]))

    @property
    def made(self) -> NDArray[np.uint8] | None:
        """The current picture where it is not the one that was asked about."""
        image = self._session.image
        return None if image is self._image else image

    def carry_out(self, response: Response, mask_all: bool) -> None:
        """Run the calls in order; those that only segment the same picture, in one run.

        A `seg` after an edit sees the edited picture. mask_all: every region that belongs to no
        such call is segmented too, in the picture that was asked about.
        """
        before, after = _around_first_change(response.calls)
        late = {id(region) for call in after if _segments(call) for region in call.regions}
        places = _numbered(response.regions)
        if mask_all:
            wanted = tuple(r for r in response.regions if id(r) not in late)
        else:
            wanted = _regions_of(before)
        self._segment(_note(before), wanted, places)
        for call in before:
            if not _segments(call):
                self._run(call)
        self._run_in_turn(after, places)

    def _run_in_turn(self, calls: Sequence[TaskCall], places: Mapping[int, int]) -> None:
        for together, group in groupby(calls, key=_segments):
            waiting = tuple(group)
            if together:
                self._segment(_note(waiting), _regions_of(waiting), places)
            else:
                for call in waiting:
                    self._run(call)

    def _segment(self, note: str, regions: tuple[Region, ...], places: Mapping[int, int]) -> None:
        if not regions:
            return
        result = self._run(TaskCall('seg', note, regions))
        image = self._session.image
        # Masks of a picture of another size lie nowhere in this one: they are in `results` alone.
        fits = image is not None and image.shape == self._image.shape
        if isinstance(result, SegmentationResult) and fits:
            order = [
                places[id(region)] + index
                for region in regions
                for index in range(len(region.boxes))
            ]
            self._masks += zip(order, result.masks, strict=False)

    def _run(self, call: TaskCall) -> Result | None:
        if self._router is None:
            return None
        try:
            result = self._router.run(
                call,
                session=self._session,
                seed=self._seed,
                progress=self._on_progress,
                cancel=self._cancel,
            )
        except Cancelled:
            raise
        except UnifiedMLLMError as error:
            self.failures.append(Failure(call, error))
            return None
        self.results.append(result)
        self.calls.append(call)
        return result


def _segments(call: TaskCall) -> bool:
    return call.task == 'seg' and bool(call.regions)


def _around_first_change(
    calls: Sequence[TaskCall],
) -> tuple[tuple[TaskCall, ...], tuple[TaskCall, ...]]:
    """Split calls where the first one stands that may make another picture."""
    for index, call in enumerate(calls):
        if call.task not in _KEEPS:
            return tuple(calls[:index]), tuple(calls[index:])
    return tuple(calls), ()


def _regions_of(calls: Sequence[TaskCall]) -> tuple[Region, ...]:
    return tuple(region for call in calls if _segments(call) for region in call.regions)


def _note(calls: Sequence[TaskCall]) -> str:
    return ' '.join(call.argument for call in calls if _segments(call) and call.argument)


def _numbered(regions: Sequence[Region]) -> dict[int, int]:
    """The number of the first box of each region, by the region's identity."""
    numbers, count = {}, 0
    for region in regions:
        numbers[id(region)] = count
        count += len(region.boxes)
    return numbers
