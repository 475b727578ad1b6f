"""How the frames of a batch move into each other: flow, and what is hidden, at every resolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

Flow = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]
"""From two frames (height, width, 3) uint8 RGB to where each pixel of the first goes in the second,
(height, width, 2) of x and y in pixels."""

# A flow and its way back agree where their sum is shorter than this share of their lengths, and
# this many pixels more (Meister et al., 2018, arXiv 1711.07837).
_SHARE = 0.01
_PIXELS = 0.5
# The mean difference of colours, of 255, beyond which a pixel is taken for another thing.
_OTHER_COLOUR = 0.25 * 255


@cache
def _grid(height: int, width: int, device: str) -> Any:
    rows, columns = torch.meshgrid(
        torch.arange(height, device=device, dtype=torch.float32),
        torch.arange(width, device=device, dtype=torch.float32),
        indexing='ij',
    )
    return torch.stack((columns, rows))[None]


def warp(images: Any, flow: Any) -> Any:
    """Return images (n, channels, h, w) sampled where the flow (n, 2, h, w) points.

    Bilinear; 0 where the flow points outside.
    """
    height, width = images.shape[-2:]
    places = _grid(height, width, str(flow.device)) + flow
    x = 2 * places[:, 0] / max(width - 1, 1) - 1
    y = 2 * places[:, 1] / max(height - 1, 1) - 1
    grid = torch.stack((x, y), dim=-1).to(images.dtype)
    return functional.grid_sample(images, grid, 'bilinear', 'zeros', align_corners=True)


def hidden_by_flow(flow: Any, back: Any) -> Any:
    """Return (n, h, w) bool: pixels whose flow does not come back by `back`, both (n, 2, h, w)."""
    there_and_back = (flow + warp(back, flow)).norm(dim=1)
    return there_and_back > _SHARE * (flow.norm(dim=1) + back.norm(dim=1)) + _PIXELS


def hidden_by_colour(frames: Any, others: Any, flow: Any) -> Any:
    """Return (n, h, w) bool: pixels that look different where the flow takes them in `others`.

    frames, others: (n, 3, h, w) in [0, 255].
    """
    return (warp(others, flow) - frames).abs().mean(dim=1) > _OTHER_COLOUR


def reduced(images: Any, factor: int) -> Any:
    """Return images (n, channels, H, W) at 1/factor of their size: the middle of each block."""
    size = (images.shape[-2] // factor, images.shape[-1] // factor)
    return functional.interpolate(images, size=size, mode='bilinear', align_corners=False)


@dataclass(frozen=True, eq=False)
class Motion:
    """The flow of all pairs at one resolution, and which pixels are surely seen in both frames.

    forward, backward: (n, 2, h, w), from frame i to the next and back, in pixels of that size.
    seen_forward: (n, 1, h, w) of 0 and 1, pixels of frame i that the next shows; seen_backward:
    pixels of the next that frame i shows.
    """

    forward: Any
    backward: Any
    seen_forward: Any
    seen_backward: Any


@dataclass(frozen=True, eq=False)
class FramePairs:
    """Each frame with the next, the last with the first.

    frames: (n, 3, H, W) float32 in [0, 255].
    forward, backward: (n, 2, H, W) of x and y in pixels, from frame i to the next and back.
    hidden_forward: (n, H, W) bool, pixels of frame i that the next does not show;
    hidden_backward: pixels of the next that frame i does not show.
    """

    frames: Any
    forward: Any
    backward: Any
    hidden_forward: Any
    hidden_backward: Any
    _scaled: dict[int, Motion] = field(default_factory=dict, repr=False)

    @classmethod
    def from_flow(cls, frames: Any, forward: Any, backward: Any) -> FramePairs:
        """Find what is hidden, by the flow and by the colours."""
        following = frames.roll(-1, dims=0)
        return cls(
            frames,
            forward,
            backward,
            hidden_by_flow(forward, backward) | hidden_by_colour(frames, following, forward),
            hidden_by_flow(backward, forward) | hidden_by_colour(following, frames, backward),
        )

    @classmethod
    def from_frames(
        cls, frames: Sequence[NDArray[np.uint8]], flow: Flow, device: Any = 'cpu'
    ) -> FramePairs:
        """Find the flow too; frames (H, W, 3) uint8 RGB of one size."""
        following = [*frames[1:], frames[0]]
        pairs = list(zip(frames, following, strict=True))
        forward = _stacked([flow(one, two) for one, two in pairs], device)
        backward = _stacked([flow(two, one) for one, two in pairs], device)
        return cls.from_flow(_stacked(frames, device), forward, backward)

    def __len__(self) -> int:
        return len(self.frames)

    def at(self, factor: int) -> Motion:
        """Return the motion at 1/factor of the size, computed once."""
        if factor not in self._scaled:
            self._scaled[factor] = Motion(
                reduced(self.forward, factor) / factor,
                reduced(self.backward, factor) / factor,
                _seen(self.hidden_forward, factor),
                _seen(self.hidden_backward, factor),
            )
        return self._scaled[factor]

    def new_at(self, factor: int) -> Any:
        """Return (n, h, w) bool: pixels of the next frame that frame i mostly does not show."""
        return reduced(self.hidden_backward[:, None].float(), factor)[:, 0] > 0.5


def _seen(hidden: Any, factor: int) -> Any:
    return 1 - functional.max_pool2d(hidden[:, None].float(), factor)


def _stacked(arrays: Sequence[NDArray[Any]], device: Any) -> Any:
    stacked = torch.from_numpy(np.stack(arrays)).to(device)
    return stacked.permute(0, 3, 1, 2).float().contiguous()
