"""Instance masks and the label map that carries all of them in one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.errors import ImageError
from unifiedmllm_ros.representation import Box

MAX_LABELS = 65_535


@dataclass(frozen=True, eq=False)
class Mask:
    """The pixels of one instance; only a window of the image is stored.

    phrase, box: the instance in the response; box.confidence is its confidence.
    left, top: the window's corner in the image, pixels.
    pixels: (height, width) bool, the window; True belongs to the instance.
    """

    phrase: str
    box: Box
    left: int
    top: int
    pixels: NDArray[np.bool_]

    @property
    def area(self) -> int:
        """The number of pixels that belong to the instance."""
        return int(np.count_nonzero(self.pixels))

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the image that the window covers."""
        height, width = self.pixels.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    def full(self, height: int, width: int) -> NDArray[np.bool_]:
        """Return the mask in an image of this size, (height, width) bool."""
        image = np.zeros((height, width), dtype=bool)
        image[self.window] = self.pixels
        return image


def label_map(
    masks: Sequence[Mask], height: int, width: int
) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], tuple[str, ...]]:
    """Draw all masks into one image of labels.

    Label k (from 1; 0 is background) is masks[k - 1], and names[k - 1] its phrase. Where masks
    overlap the smaller one lies on top. uint8 up to 255 masks, else uint16.
    """
    if len(masks) > MAX_LABELS:
        raise ImageError(f'{len(masks)} masks do not fit a label map: at most {MAX_LABELS}')
    labels = np.zeros((height, width), dtype=np.uint8 if len(masks) <= 255 else np.uint16)
    for index in sorted(range(len(masks)), key=lambda i: -masks[i].area):
        mask = masks[index]
        labels[mask.window][mask.pixels] = index + 1
    return labels, tuple(mask.phrase for mask in masks)
