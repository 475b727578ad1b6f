"""SAM 3 (Carion et al., 2025, arXiv 2511.16719) as an expert: phrases become masks.

The phrase says what is looked for, all instances of it are found, and each box takes the one that
lies where it says. The network is that of transformers; pixels before it and masks after it are
handled here, so neither torchvision nor a processor is needed.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.cancellation import Cancel, check
from unifiedmllm_ros.errors import (
    ConfigError,
    ExpertError,
    MissingExtraError,
    ModelFileError,
    RequestError,
    UnifiedMLLMError,
)
from unifiedmllm_ros.experts.base import (
    OnProgress,
    PixelBox,
    Progress,
    Provenance,
    Request,
    SegmentationResult,
    needed_image,
)
from unifiedmllm_ros.experts.sam2 import needed_folder
from unifiedmllm_ros.experts.torch_masks import fingerprint, mask_of, torch_device, windowed
from unifiedmllm_ros.masks import Mask

_FILES = ('config.json', 'model.safetensors', 'tokenizer.json')
_KINDS = ('sam3', 'sam3_video')


@dataclass(frozen=True, eq=False)
class Instances:
    """All instances of one phrase in an image.

    scores: (n,) in [0, 1]. boxes: (n, 4) left, top, right, bottom as shares of the image.
    masks: (n, h, w) logits. surplus: tokens of the phrase that were not read.
    """

    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]
    masks: Any
    surplus: int


class Sam3:
    """SAM 3 of transformers, prompted by the phrases.

    weights: a folder with config.json, model.safetensors and tokenizer.json of a SAM 3 checkpoint.
    device: cpu or cuda. dtype: float32, bfloat16 or float16.
    threshold: the least score of an instance. overlap: the least overlap (IoU) of its box with the
    box of the request. A request's parameters override both.
    """

    def __init__(
        self,
        name: str,
        weights: Path | None,
        device: str = 'cpu',
        dtype: str = 'float32',
        threshold: float = 0.3,
        overlap: float = 0.3,
    ) -> None:
        self.name = name
        self._folder = needed_folder(name, weights, dtype)
        self._device, self._dtype = device, dtype
        self._limits = {'threshold': threshold, 'overlap': overlap}
        _check_limits(name, self._limits)
        self._model: Any = None
        self._tokens: Any = None
        self._weights = ''

    def load(self) -> None:
        """Read the weights. Raises ModelFileError where they are not what they should be."""
        if self._model is not None:
            return
        model = _load_model(self.name, self._folder, self._device, self._dtype)
        from unifiedmllm_ros.experts.seem.prompts import PromptTokens

        context = model.config.text_config.max_position_embeddings
        self._tokens = PromptTokens(self._folder / 'tokenizer.json', context)
        self._model = model
        self._weights = fingerprint(self._folder / 'model.safetensors')

    def unload(self) -> None:
        """Drop the model."""
        self._model = self._tokens = None

    def run(self, request: Request, progress: OnProgress, cancel: Cancel) -> SegmentationResult:
        """Segment every box of the request; the image is encoded once, each phrase looked for once.

        A mask is empty where no instance of the phrase lies at its box; a notice says so.
        """
        import torch

        start = time.perf_counter()
        limits = {k: request.parameters.get(k, v) for k, v in self._limits.items()}
        _check_limits(self.name, limits, RequestError)
        image = needed_image(request, self.name)
        self.load()
        masks: dict[int, Mask] = {}
        notices: list[str] = []
        phrases = list(dict.fromkeys(box.phrase for box in request.boxes))
        check(cancel, f'expert {self.name}')
        progress(Progress('image', 0.0))
        with torch.inference_mode():
            seen = self._model.get_vision_features(pixel_values=self._pixels(image))
            for index, phrase in enumerate(phrases, start=1):
                check(cancel, f'expert {self.name}')
                progress(Progress('segment', index / (len(phrases) + 1)))
                found = self._find(seen, phrase, limits['threshold'])
                masks |= self._chosen(found, phrase, request, limits['overlap'], notices)
        progress(Progress('segment', 1.0))
        provenance = Provenance(
            self.name,
            'torch',
            self._weights,
            request.seed,
            {**limits, 'device': self._device, 'dtype': self._dtype},
            (time.perf_counter() - start) * 1000,
            self._device,
            self._dtype,
            tuple(notices),
        )
        return SegmentationResult(provenance, tuple(masks[i] for i in range(len(request.boxes))))

    def _pixels(self, image: NDArray[np.uint8]) -> Any:
        """(height, width, 3) uint8 RGB as (1, 3, size, size) in [-1, 1]."""
        import torch

        size = self._model.config.vision_config.backbone_config.image_size
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self._model.device)
        pixels = torch.nn.functional.interpolate(
            pixels.permute(2, 0, 1)[None].float(),
            size=(size, size),
            mode='bilinear',
            align_corners=False,
            antialias=True,
        )
        return (pixels.round().clamp(0, 255) / 127.5 - 1).to(self._model.dtype)

    def _find(self, seen: Any, phrase: str, threshold: float) -> Instances:
        if not phrase.strip():
            raise ExpertError(
                f'expert {self.name!r} finds things by their phrase and got a box without one: '
                'name the thing, or use an expert that is prompted by boxes, such as sam2'
            )
        ids, attended = (part.to(self._model.device) for part in self._tokens(phrase))
        found = self._model(vision_embeds=seen, input_ids=ids, attention_mask=attended)
        scores = found.pred_logits[0].float().sigmoid()
        scores = scores * found.presence_logits[0].float().sigmoid()
        kept = scores > threshold
        return Instances(
            scores[kept].cpu().numpy(),
            found.pred_boxes[0][kept].float().cpu().numpy(),
            found.pred_masks[0][kept].float(),
            self._tokens.surplus(phrase),
        )

    def _chosen(
        self,
        found: Instances,
        phrase: str,
        request: Request,
        overlap: float,
        notices: list[str],
    ) -> dict[int, Mask]:
        """The masks of all boxes with this phrase, by their place in the request."""
        image = needed_image(request, self.name)
        places = [i for i, box in enumerate(request.boxes) if box.phrase == phrase]
        boxes = [request.boxes[place] for place in places]
        if found.surplus:
            notices.append(
                f'The last {found.surplus} tokens of the phrase {phrase[:40]!r} were left out.'
            )
        masks = {}
        pairs = matched(boxes, found.boxes, image.shape[:2], overlap)
        for place, box, instance in zip(places, boxes, pairs, strict=True):
            if instance is None:
                notices.append(f'No {phrase[:40]!r} was found at box {place + 1}.')
                masks[place] = windowed(np.zeros(image.shape[:2], bool), box)
            else:
                masks[place] = self._mask(found.masks[instance], box, image.shape[:2])
        return masks

    def _mask(self, logits: Any, box: PixelBox, size: tuple[int, ...]) -> Mask:
        import torch

        # The published way: shares are resized, not logits.
        shares = torch.nn.functional.interpolate(
            logits[None, None].sigmoid(), size=tuple(size), mode='bilinear', align_corners=False
        )
        return mask_of(shares[0, 0] - 0.5, box, self.name)


def matched(
    boxes: Sequence[PixelBox], found: NDArray[np.float32], size: tuple[int, ...], least: float
) -> list[int | None]:
    """Return for each box of an image (height, width) the instance at it, None where there is none.

    found: (n, 4) boxes of instances as shares of the image. Those that overlap most are paired
    first, with an IoU of at least `least`; an instance belongs to one box only.
    """
    scale = np.array((size[1], size[0]) * 2, np.float32)
    wanted = np.array([box.edges for box in boxes], np.float32).reshape(-1, 4)
    overlaps = _overlaps(wanted, found.reshape(-1, 4) * scale)
    result: list[int | None] = [None] * len(boxes)
    while overlaps.size and overlaps.max() >= max(least, 1e-9):
        box, instance = np.unravel_index(int(overlaps.argmax()), overlaps.shape)
        result[int(box)] = int(instance)
        overlaps[box, :] = overlaps[:, instance] = -1.0
    return result


def _overlaps(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """IoU of boxes (n, 4) with others (m, 4), (n, m)."""
    start = np.maximum(one[:, None, :2], other[None, :, :2])
    end = np.minimum(one[:, None, 2:], other[None, :, 2:])
    common = (end - start).clip(0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1][None, :] - common
    return np.asarray(common / np.maximum(union, 1e-9), np.float32)


def _check_limits(
    name: str, limits: dict[str, Any], kind: type[UnifiedMLLMError] = ConfigError
) -> None:
    for key, value in limits.items():
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise kind(f'expert {name!r}: {key} {value!r} must be a number from 0 to 1')


def _load_model(name: str, folder: Path, device: str, dtype: str) -> Any:
    remedy = 'put the files of facebook/sam3 there'
    for file in _FILES:
        if not (folder / file).is_file():
            raise ModelFileError(f'expert {name!r} finds no {file} in {folder}: {remedy}')
    try:
        kind = json.loads((folder / 'config.json').read_text(encoding='utf-8')).get('model_type')
    except (ValueError, AttributeError) as error:
        raise ModelFileError(f'{folder / "config.json"} is not a configuration: {error}') from error
    if kind not in _KINDS:
        raise ModelFileError(
            f'{folder} holds a model of type {kind!r} and expert {name!r} needs one of '
            f'{", ".join(_KINDS)}: {remedy}'
        )
    place = torch_device(name, device)
    try:
        # Not by its name in `transformers`, which asks for torchvision; phrases do not need it.
        module = importlib.import_module('transformers.models.sam3.modeling_sam3')
    except ImportError as error:
        raise MissingExtraError.naming('transformers', 'train') from error
    try:
        model, found = module.Sam3Model.from_pretrained(
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
