"""What the frozen region encoder finds in every picture, computed once and kept on disk.

A picture then costs its projector alone, which is a thousandth of its encoder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor
from unifiedmllm_ros.model.regions import Regions, RegionVisionModel
from unifiedmllm_ros.training.media import MediaError, read_picture

FIELDS = tuple(field.name for field in fields(Regions))
BATCH = 16


class RegionsCache:
    """Regions by picture file: float16 on disk and in memory."""

    def __init__(self, rows: dict[str, int], tables: dict[str, NDArray[np.float16]]) -> None:
        self._rows, self._tables = rows, tables

    def of(self, picture: object) -> dict[str, NDArray[np.float32]]:
        """The regions of one picture, as float32 without a batch axis."""
        row = self._rows[str(picture)]
        return {name: self._tables[name][row].astype(np.float32) for name in FIELDS}

    @classmethod
    def open(
        cls,
        folder: Path,
        pictures: Iterable[Path],
        encoder: Any,
        processor: UnifiedMLLMProcessor,
    ) -> RegionsCache:
        """Load what was found before with the same encoder, find the rest, and save all.

        Raises ConfigError for another kind of encoder, MediaError for a damaged picture.
        """
        if not isinstance(encoder, RegionVisionModel):
            raise ConfigError('cache_regions: this model has no region encoder; switch it off')
        named = sorted({str(picture) for picture in pictures})
        key = _key(encoder, named)
        file = folder / f'regions-{key}.safetensors'
        if file.is_file():
            tables: dict[str, Any] = load_file(file)
        else:
            tables = _found(named, encoder, processor)
            folder.mkdir(parents=True, exist_ok=True)
            # Several processes may find the same ones at the same time.
            partial = file.with_suffix(f'.{os.getpid()}.part')
            save_file(tables, partial)
            partial.replace(file)
        return cls({name: row for row, name in enumerate(named)}, tables)


def _key(encoder: RegionVisionModel, names: Sequence[str]) -> str:
    digest = hashlib.sha256('\n'.join(names).encode())
    for tensor in encoder.state_dict().values():
        digest.update(tensor.float().numpy().tobytes())
    return digest.hexdigest()[:16]


def _found(
    names: Sequence[str], encoder: RegionVisionModel, processor: UnifiedMLLMProcessor
) -> dict[str, NDArray[np.float16]]:
    encoder.eval()
    parts: dict[str, list[NDArray[np.float16]]] = {name: [] for name in FIELDS}
    for start in tqdm(range(0, len(names), BATCH), desc='regions', unit='batch', mininterval=5):
        pixels = [_pixels(Path(name), processor) for name in names[start : start + BATCH]]
        regions = _regions(encoder, torch.from_numpy(np.concatenate(pixels)))
        for name in FIELDS:
            # Scores far outside of float16 do not occur; clamp all the same.
            values: Tensor = getattr(regions, name).float().clamp(-6e4, 6e4)
            parts[name].append(values.half().numpy())
    return {name: np.concatenate(rows) for name, rows in parts.items()}


@torch.inference_mode()
def _regions(encoder: RegionVisionModel, pixels: Tensor) -> Regions:
    with torch.autocast('cpu', torch.bfloat16):
        maps = encoder.head(encoder.backbone(pixels.contiguous(memory_format=torch.channels_last)))
    return encoder.select(maps.map(Tensor.float))


def _pixels(path: Path, processor: UnifiedMLLMProcessor) -> NDArray[np.float32]:
    try:
        return processor.pixels(read_picture(path))
    except (ValueError, OSError) as error:
        raise MediaError(f'{path}: {error}') from error
