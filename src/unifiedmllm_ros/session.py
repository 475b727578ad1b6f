"""What a conversation has seen and made, so that a later call can go on from an earlier one.

'Take the can away', then 'now make it night': the second edit works on the first one's image.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.errors import MissingImageError
from unifiedmllm_ros.experts.base import ImageResult, Result, VideoResult
from unifiedmllm_ros.model.protocol import Turn
from unifiedmllm_ros.representation import TASKS, Region, TaskCall

Image = NDArray[np.uint8]


class Session:
    """The current picture of a conversation, its turns, and the pictures before.

    The current picture is the newest one seen or made. A call that needs a region and names none
    means the one that was spoken of last. One thread uses a session at a time.
    """

    def __init__(self, keep: int = 16) -> None:
        """Remember the newest `keep` pictures and turns."""
        self._pictures: deque[tuple[int, Image]] = deque(maxlen=keep)
        self._turns: deque[Turn] = deque(maxlen=keep)
        self._seen: Image | None = None
        self._turn = 0
        self._frames: tuple[Image, ...] = ()
        self._rate = 0.0
        self.regions: tuple[Region, ...] = ()

    @property
    def image(self) -> Image | None:
        """The current picture, (height, width, 3) uint8 RGB; of a video, its first frame."""
        return self._pictures[-1][1] if self._pictures else None

    @property
    def frames(self) -> tuple[Image, ...]:
        """The frames after `image`, where the current picture is a video."""
        return self._frames

    @property
    def rate(self) -> float:
        """Frames per second of the current video, 0 where there is none or it is not known."""
        return self._rate

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The turns so far, oldest first: the history of the next question."""
        return tuple(self._turns)

    @property
    def images(self) -> tuple[tuple[int, Image], ...]:
        """The pictures that are remembered, each with the number of its turn, oldest first."""
        return tuple(self._pictures)

    @property
    def changed(self) -> bool:
        """Whether the current picture was made here, not seen."""
        return self.image is not self._seen

    def see(self, image: Image, frames: Sequence[Image] = (), rate: float = 0.0) -> None:
        """Take a picture from outside; one that was taken last already changes nothing.

        So an edited picture stays the current one while the caller shows the same one again.
        """
        if image is not self._seen:
            self._seen = image
            self.regions = ()
            self._set(image, frames, rate)

    def take(self, call: TaskCall, result: Result) -> None:
        """Take what came of a call: pictures and videos become the current one."""
        if call.regions:
            self.regions = call.regions
        match result:
            case ImageResult(images=images) if images:
                self._set(images[0])
            case VideoResult(frames=frames, rate=rate) if frames:
                self._set(frames[0], frames[1:], rate)

    def completed(self, call: TaskCall) -> TaskCall:
        """Return a call with the regions that were spoken of last where it needs some."""
        spec = TASKS.get(call.task)
        if spec is None or call.regions or not spec.regions[0] or not spec.image:
            return call
        return replace(call, regions=self.regions)

    def end_turn(self, turn: Turn, regions: Sequence[Region] = ()) -> None:
        """Close a turn: what was asked and answered, and the regions that were spoken of."""
        self._turns.append(turn)
        self._turn += 1
        if regions:
            self.regions = tuple(regions)

    def back(self) -> Image:
        """Undo: make the picture before the current one the current one, and return it.

        Raises MissingImageError where there is none.
        """
        if len(self._pictures) < 2:
            raise MissingImageError('there is no earlier image in this session to go back to')
        self._pictures.pop()
        self._frames, self._rate = (), 0.0
        return self._pictures[-1][1]

    def _set(self, image: Image, frames: Sequence[Image] = (), rate: float = 0.0) -> None:
        self._pictures.append((self._turn, image))
        self._frames, self._rate = tuple(frames), rate
