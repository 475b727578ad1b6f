"""What differs between families when they run here: pictures and prompts as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from unifiedmllm_ros.errors import ConfigError, ImageError, MissingExtraError, ModelFileError
from unifiedmllm_ros.model.adapters.base import Adapter, Message, Size

Picture = npt.NDArray[np.uint8]
Tensors = dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """A picture (or video) as a model takes it.

    size: of the picture that boxes are fractions of. resized: what the model's own preprocessing
    made of it, where answers are in its pixels. tensors: for the model. tokens: the ids that stand
    for it in a prompt. kind: 1 for an image, 2 for a video.
    """

    size: Size
    tensors: Tensors = field(repr=False)
    tokens: tuple[int, ...] = field(repr=False)
    resized: Size | None = None
    kind: int = 1


class Family(Protocol):
    """Preprocessing and prompts of a family; one instance for each loaded checkpoint."""

    adapter: Adapter
    tokenizer: Any

    def look(self, image: Picture) -> Seen:
        """Preprocess an image, (height, width, 3) RGB."""
        ...

    def inputs(self, messages: Sequence[Message], seen: Seen) -> Tensors:
        """Return what `generate` takes, in batches of one."""
        ...

    def text(self, ids: Sequence[int]) -> str:
        """Return what the model wrote, with the tokens that its adapter reads."""
        ...


def load_tokenizer(folder: Path) -> Any:
    """Load a checkpoint's tokenizer. Raises ModelFileError."""
    from transformers import AutoTokenizer

    return _loaded(AutoTokenizer, folder, 'tokenizer')


def load_image_processor(folder: Path) -> Any:
    """Load a checkpoint's image preprocessing, which works without torchvision."""
    try:
        import PIL  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError.naming('PIL', 'vlm') from error
    from transformers import AutoImageProcessor

    try:
        return _loaded(AutoImageProcessor, folder, 'image preprocessing', backend='pil')
    except ImportError as error:
        raise ConfigError(f'{folder}: its image preprocessing needs more: {error}') from error


def _loaded(loader: Any, folder: Path, what: str, **options: Any) -> Any:
    try:
        return loader.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, **options
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = ' '.join(str(error).split())[:300]
        raise ModelFileError(f'{folder}: the {what} cannot be loaded: {reason}') from error


def shrunk(image: Picture, max_pixels: int) -> Picture:
    """Return an image with at most this area (0: as it is). Raises ImageError for other arrays."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ImageError(f'image is {image.dtype} {image.shape}, not uint8 (height, width, 3)')
    height, width = image.shape[:2]
    if not max_pixels or height * width <= max_pixels:
        return image
    scale = (max_pixels / (height * width)) ** 0.5
    size = (max(1, int(width * scale)), max(1, int(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def one_row(ids: Sequence[int]) -> Tensors:
    """Return ids and their mask as a batch of one."""
    import torch

    row = torch.tensor([list(ids)], dtype=torch.long)
    return {'input_ids': row, 'attention_mask': torch.ones_like(row)}
