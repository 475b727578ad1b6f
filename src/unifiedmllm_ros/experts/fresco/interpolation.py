"""Frames between key frames: the edited key frames on both sides, moved by optical flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from unifiedmllm_ros.experts.fresco.pairs import Flow, hidden_by_colour, hidden_by_flow

# Weight of a key frame that does not show a pixel, for those that neither shows.
_UNSEEN = 1e-3


@dataclass(frozen=True, eq=False)
class KeyFrame:
    """A frame of the video and its edit, both (height, width, 3) uint8 RGB of one size."""

    index: int
    frame: NDArray[np.uint8]
    edited: NDArray[np.uint8]


def interpolated(
    index: int, frame: NDArray[np.uint8], keys: Sequence[KeyFrame], flow: Flow
) -> NDArray[np.uint8]:
    """Return the edit of a frame from that of one or two key frames, (height, width, 3) uint8.

    The nearer key frame counts more; one that does not show a pixel hardly counts there.
    """
    total = np.zeros((*frame.shape[:2], 1), np.float32)
    mixed = np.zeros(frame.shape, np.float32)
    for key in keys:
        there, back = flow(frame, key.frame), flow(key.frame, frame)
        weight = np.where(_hidden(frame, key.frame, there, back), _UNSEEN, 1.0)[..., None]
        weight = (weight / max(abs(index - key.index), 1)).astype(np.float32)
        mixed += _moved(key.edited, there) * weight
        total += weight
    return np.asarray(np.rint(mixed / total).clip(0, 255), np.uint8)


def _moved(image: NDArray[np.uint8], flow: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, columns = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    x, y = columns + flow[..., 0], rows + flow[..., 1]
    return np.asarray(
        cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32
    )


def _hidden(
    frame: NDArray[np.uint8],
    other: NDArray[np.uint8],
    flow: NDArray[np.float32],
    back: NDArray[np.float32],
) -> NDArray[np.bool_]:
    there, home = (_tensor(one) for one in (flow, back))
    hidden = hidden_by_flow(there, home) | hidden_by_colour(_tensor(frame), _tensor(other), there)
    return np.asarray(hidden[0].numpy())


def _tensor(image: NDArray[np.uint8] | NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
