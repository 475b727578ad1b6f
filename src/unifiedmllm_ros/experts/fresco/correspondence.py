"""Which tokens of the frames are the same thing, for attention across frames.

A token is a pixel of a reduced image, counted by rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unifiedmllm_ros.experts.fresco.pairs import FramePairs, reduced


def cross_frame_mask(pairs: FramePairs, factor: int) -> Any:
    """Return (frames, tokens) bool: the tokens that all frames look at.

    All of the first frame, and of every other what the frame before does not show.
    """
    new = pairs.new_at(factor)[:-1].flatten(1)
    return torch.cat((torch.ones_like(pairs.new_at(factor)[:1].flatten(1)), new))


@dataclass(frozen=True, eq=False)
class Trajectories:
    """The tokens of all frames, lined up with those of the first frame.

    forward: (frames, tokens) int64; forward[i][k] is the token of frame i that k of the first
    frame became. backward: its inverse. together: (tokens, frames, frames) bool, which frames of a
    trajectory show the same thing: it is cut where a token was lost.
    """

    forward: Any
    backward: Any
    together: Any

    @classmethod
    def of(cls, pairs: FramePairs, factor: int) -> Trajectories:
        """Follow every token from frame to frame."""
        steps = [matched(pairs, index, factor) for index in range(len(pairs) - 1)]
        tokens = pairs.new_at(factor)[0].numel()
        forward, piece = [np.arange(tokens)], [np.zeros(tokens, np.int64)]
        for sources, unlinked in steps:
            piece.append(piece[-1] + unlinked[forward[-1]])
            forward.append(sources[forward[-1]])
        lined, pieces = np.stack(forward), np.stack(piece)
        together = pieces.T[:, :, None] == pieces.T[:, None, :]
        device = pairs.frames.device
        return cls(
            torch.from_numpy(lined).to(device),
            torch.from_numpy(np.argsort(lined, axis=1)).to(device),
            torch.from_numpy(together).to(device),
        )


def matched(
    pairs: FramePairs, index: int, factor: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return for each token of a frame its token in the next, and which have none.

    A token of the next frame belongs to where its flow comes from, unless it is new there; of
    several the one of the nearest colour, then the first. Tokens that are left on both sides are
    paired in ascending order, (tokens,) indices, and marked, (tokens,) bool.
    """
    flow = pairs.at(factor).backward[index].cpu().numpy()
    height, width = flow.shape[1:]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    x, y = np.round(columns + flow[0]).ravel(), np.round(rows + flow[1]).ravel()
    usable = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    usable &= ~pairs.new_at(factor)[index].cpu().numpy().ravel()
    sources = np.flatnonzero(usable)
    targets = (y[sources] * width + x[sources]).astype(np.int64)
    here, there = _colours(pairs, index, factor)
    distance = ((there[:, sources] - here[:, targets]) ** 2).sum(axis=0)
    best = np.lexsort((sources, distance, targets))
    _, first = np.unique(targets[best], return_index=True)
    found = np.full(height * width, -1)
    found[targets[best][first]] = sources[best][first]
    unlinked = found < 0
    found[unlinked] = np.setdiff1d(np.arange(height * width), found)
    return found, unlinked


def _colours(pairs: FramePairs, index: int, factor: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The tokens' colours in a frame and the next, each (3, tokens)."""
    both = [index, (index + 1) % len(pairs)]
    here, there = reduced(pairs.frames[both], factor).flatten(2).cpu().numpy()
    return here, there
