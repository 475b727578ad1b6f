"""SAM 2.1 (Ravi et al., 2024, arXiv 2408.00714) as an expert: boxes become masks.

The network is that of transformers; pixels before it and masks after it are handled here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.cancellation import Cancel, check
from unifiedmllm_ros.errors import ConfigError, MissingExtraError, ModelFileError
from unifiedmllm_ros.experts.base import (
    OnProgress,
    PixelBox,
    Progress,
    Provenance,
    Request,
    SegmentationResult,
    needed_image,
)
from unifiedmllm_ros.experts.torch_masks import fingerprint, mask_of, torch_device
from unifiedmllm_ros.masks import Mask

DTYPES = ('float32', 'bfloat16', 'float16')
_BATCH = 32
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class Sam2:
    """SAM 2.1 of transformers, prompted by boxes.

    weights: a folder with config.json and model.safetensors; a checkpoint of `sam2_video` will do.
    device: cpu or cuda. dtype: float32, bfloat16 or float16.
    """

    def __init__(
        self, name: str, weights: Path | None, device: str = 'cpu', dtype: str = 'float32'
    ) -> None:
        self.name = name
        self._folder = needed_folder(name, weights, dtype)
        self._options = {'device': device, 'dtype': dtype}
        self._model: Any = None
        self._weights = ''

    def load(self) -> None:
        """Read the weights. Raises ModelFileError where they are not what they should be."""
        if self._model is None:
            self._model = load_model(self.name, 'Sam2Model', self._folder, **self._options)
            self._weights = fingerprint(self._folder / 'model.safetensors')

    def unload(self) -> None:
        """Drop the model."""
        self._model = None

    def run(self, request: Request, progress: OnProgress, cancel: Cancel) -> SegmentationResult:
        """Segment every box of the request; the image is encoded once."""
        import torch

        start = time.perf_counter()
        image = needed_image(request, self.name)
        self.load()
        what = f'expert {self.name}'
        check(cancel, what)
        progress(Progress('image', 0.0))
        masks: list[Mask] = []
        with torch.inference_mode():
            size = self._model.config.prompt_encoder_config.image_size
            embeddings = self._model.get_image_embeddings(pixel_values(image, size, self._model))
            for first in range(0, len(request.boxes), _BATCH):
                check(cancel, what)
                progress(Progress('segment', (first + 1) / (len(request.boxes) + 1)))
                boxes = request.boxes[first : first + _BATCH]
                masks += self._segment(embeddings, boxes, image.shape[:2], size)
        progress(Progress('segment', 1.0))
        duration = (time.perf_counter() - start) * 1000
        provenance = Provenance(
            self.name, 'torch', self._weights, request.seed, dict(self._options), duration
        )
        return SegmentationResult(provenance, tuple(masks))

    def _segment(
        self, embeddings: Any, boxes: Sequence[PixelBox], shape: tuple[int, ...], size: int
    ) -> list[Mask]:
        corners = scaled_boxes(boxes, shape, size, self._model)
        found = self._model(
            image_embeddings=list(embeddings), input_boxes=corners[None], multimask_output=False
        )
        logits = full_size(found.pred_masks[0, :, :1], shape)[:, 0]
        return [mask_of(one, box, self.name) for one, box in zip(logits, boxes, strict=True)]


def needed_folder(name: str, weights: Path | None, dtype: str) -> Path:
    """Return the folder of the weights of the expert `name`. Raises ConfigError."""
    if weights is None:
        raise ConfigError(f'expert {name!r} needs weights: a folder with config.json and weights')
    if dtype not in DTYPES:
        raise ConfigError(f'expert {name!r}: dtype {dtype!r} is none of {", ".join(DTYPES)}')
    return weights


def load_model(name: str, kind: str, folder: Path, device: str, dtype: str) -> Any:
    """Return the transformers model `kind` from a folder, ready to run; nothing is downloaded.

    Raises ModelFileError where the folder lacks a file or holds another model, MissingExtraError
    without transformers.
    """
    _check_folder(name, folder)
    place = torch_device(name, device)
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError.naming('transformers', 'train') from error
    try:
        model, found = getattr(transformers, kind).from_pretrained(
            folder, local_files_only=True, output_loading_info=True, dtype=dtype
        )
    except Exception as error:  # what is raised depends on what is wrong with the files
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ModelFileError(
            f'weights of expert {name!r} in {folder} cannot be read ({reason}): fetch them again'
        ) from error
    missing = sorted(found['missing_keys']) + sorted(map(str, found.get('mismatched_keys', ())))
    if missing:
        raise ModelFileError(
            f'weights of expert {name!r} in {folder} lack {len(missing)} tensors '
            f'({", ".join(missing[:3])}): fetch them again'
        )
    return model.eval().requires_grad_(False).to(place)


def _check_folder(name: str, folder: Path) -> None:
    for file in ('config.json', 'model.safetensors'):
        if not (folder / file).is_file():
            raise ModelFileError(
                f'expert {name!r} finds no {file} in {folder}: put all files of '
                'facebook/sam2.1-hiera-tiny (or a larger one) there'
            )
    try:
        kind = json.loads((folder / 'config.json').read_text(encoding='utf-8')).get('model_type')
    except (ValueError, AttributeError) as error:
        raise ModelFileError(f'{folder / "config.json"} is not a configuration: {error}') from error
    if kind not in ('sam2', 'sam2_video'):
        raise ModelFileError(
            f'{folder} holds a model of type {kind!r} and expert {name!r} needs sam2 or '
            'sam2_video: set the folder of a SAM 2.1 checkpoint in experts.yaml'
        )


def pixel_values(image: NDArray[np.uint8], size: int, model: Any) -> Any:
    """Return (height, width, 3) uint8 RGB as (1, 3, size, size), as the weights expect it."""
    import torch

    pixels = torch.from_numpy(np.ascontiguousarray(image)).to(model.device)
    pixels = torch.nn.functional.interpolate(
        pixels.permute(2, 0, 1)[None].float(),
        size=(size, size),
        mode='bilinear',
        align_corners=False,
        antialias=True,
    )
    mean, std = (torch.tensor(x, device=pixels.device)[:, None, None] for x in (_MEAN, _STD))
    return ((pixels.round().clamp(0, 255) / 255 - mean) / std).to(model.dtype)


def scaled_boxes(boxes: Sequence[PixelBox], shape: tuple[int, ...], size: int, model: Any) -> Any:
    """Return the boxes, (n, 4), in pixels of the model's square image."""
    import torch

    scale = (size / shape[1], size / shape[0]) * 2
    corners = torch.tensor([box.edges for box in boxes], dtype=torch.float32)
    return (corners * torch.tensor(scale)).to(model.device, model.dtype)


def full_size(logits: Any, shape: tuple[int, ...]) -> Any:
    """Return mask logits (n, 1, h, w) at the size of the image."""
    import torch

    return torch.nn.functional.interpolate(
        logits.float(), size=tuple(shape), mode='bilinear', align_corners=False
    )
