"""Where a PyTorch expert runs, what its weights are, and how its pixels become masks."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.errors import ConfigError, MissingExtraError, ModelError
from unifiedmllm_ros.experts.base import PixelBox
from unifiedmllm_ros.masks import Mask


def torch_device(name: str, device: str) -> Any:
    """Return the torch device called `device` for the expert `name`.

    Raises MissingExtraError without torch, ConfigError where there is no such device.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError.naming('torch', 'train') from error
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f'expert {name!r}: {device!r} is no device: cpu or cuda') from error
    if found.type == 'cuda' and not torch.cuda.is_available():
        raise ConfigError(f'expert {name!r}: there is no GPU for device {device!r}: set cpu')
    return found


def fingerprint(path: Path) -> str:
    """Return the name and the SHA-256 of a file of weights, as provenance shows them."""
    with path.open('rb') as file:
        return f'{path.name} sha256:{hashlib.file_digest(file, "sha256").hexdigest()[:16]}'


def mask_of(logits: Any, box: PixelBox, name: str) -> Mask:
    """Return the mask of logits (height, width) at the size of the image: inside is > 0.

    Raises ModelError where the logits are not finite.
    """
    if not bool(logits.isfinite().all()):
        raise ModelError(
            f'expert {name!r} gave numbers that are not finite: its weights are damaged, '
            'fetch them again'
        )
    return windowed((logits > 0).cpu().numpy(), box)


def windowed(pixels: NDArray[np.bool_], box: PixelBox) -> Mask:
    """Return a mask, (height, width) bool of the whole image, stored as its window."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        return Mask(box.phrase, box.box, 0, 0, np.zeros((1, 1), dtype=bool))
    top, left = int(rows[0]), int(columns[0])
    part = pixels[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
    return Mask(box.phrase, box.box, left, top, np.ascontiguousarray(part))
