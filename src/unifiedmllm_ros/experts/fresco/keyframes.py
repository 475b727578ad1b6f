"""Key frames: those after which a video looks most different, neither too close nor too far."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

SHORT_SIDE = 512
_BLUR = (9, 9)


def changes(
    frames: Sequence[NDArray[np.uint8]], short_side: int = SHORT_SIDE
) -> NDArray[np.float64]:
    """Return the mean squared difference of each frame to the one before, 0 for the first.

    frames: (height, width, 3) uint8 of one size; they are resized and blurred, and compared in
    [-1, 1].
    """
    found, before = np.zeros(len(frames)), None
    for index, frame in enumerate(frames):
        now = _prepared(frame, short_side)
        if before is not None:
            found[index] = float(((now - before) ** 2).mean(dtype=np.float64))
        before = now
    return found


def _prepared(frame: NDArray[np.uint8], short_side: int) -> NDArray[np.float32]:
    height, width = frame.shape[:2]
    scale = short_side / min(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_LANCZOS4 if scale > 1 else cv2.INTER_AREA
    blurred = cv2.GaussianBlur(cv2.resize(frame, size, interpolation=how), _BLUR, 0)
    return blurred.astype(np.float32) / np.float32(127.5) - np.float32(1)


def key_frames(errors: NDArray[np.float64], fewest: int, most: int) -> tuple[int, ...]:
    """Return the indices of the key frames of a video, ascending.

    errors: as from `changes`. Both ends are keys; then the greatest change is added that is at
    least `fewest` frames from every key, until none lie more than `most` apart. With
    `fewest == most` every `most`-th frame is a key.
    """
    count = len(errors)
    if fewest == most:
        return tuple(range(0, count, most))
    keys = {0, count - 1}
    left = errors.astype(np.float64).copy()
    left[:fewest] = left[max(count - fewest, 0) :] = -1.0
    while max(np.diff(sorted(keys)), default=0) > most:
        best = int(left.argmax())
        if left[best] < 0:
            break
        keys.add(best)
        left[max(best - fewest, 0) : best + fewest] = -1.0
    return tuple(sorted(keys))
