"""SEEM as an expert: boxes or phrases of a request become masks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.cancellation import Cancel, check
from unifiedmllm_ros.errors import ConfigError, ExpertError
from unifiedmllm_ros.experts.base import (
    OnProgress,
    PixelBox,
    Progress,
    Provenance,
    Request,
    SegmentationResult,
    needed_image,
)
from unifiedmllm_ros.experts.seem.configuration import SeemConfig
from unifiedmllm_ros.experts.torch_masks import fingerprint, mask_of, torch_device

PROMPTS = ('region', 'text')


class SeemWeights:
    """SEEM with a published checkpoint (.pt, or the same tensors as .safetensors), loaded.

    prompt: `region` shows it each box, filled; `text` tells it each phrase (and needs CLIP's
    tokenizer.json beside the weights). A request's parameter `prompt` overrides it.
    short_side: to which images are resized; 512 is what the weights were trained for.
    device: cpu or cuda. config: of a model of your own; else told from the weights.
    """

    def __init__(
        self,
        name: str,
        weights: Path | None,
        prompt: str = 'region',
        short_side: int = 512,
        device: str = 'cpu',
        config: SeemConfig | None = None,
    ) -> None:
        if weights is None:
            raise ConfigError(f'expert {name!r} needs weights: the path of a SEEM checkpoint')
        if short_side < 32:
            raise ConfigError(f'expert {name!r}: short_side {short_side} must be at least 32')
        self.name = name
        self._path = weights
        self._prompt = known_prompt(prompt, name)
        self._short_side = short_side
        self._device_name = device
        self._config = config
        self._model: Any = None
        self._tokens: Any = None
        self._weights = ''

    def load(self) -> None:
        """Read the weights. Raises ModelFileError where they are not what they should be."""
        if self._model is not None:
            return
        device = torch_device(self.name, self._device_name)
        from unifiedmllm_ros.experts.seem.modeling import SeemModel
        from unifiedmllm_ros.experts.seem.weights import load_state, read_state, variant

        state = read_state(self._path)
        config = self._config or variant(state, self._path)
        model = SeemModel(config).eval().requires_grad_(False)
        load_state(model, self._path, state)
        self._model = model.to(device)
        self._weights = fingerprint(self._path)

    def unload(self) -> None:
        """Drop the model."""
        self._model = self._tokens = None

    def _tensor(self, image: NDArray[np.uint8]) -> Any:
        import torch

        height, width = image.shape[:2]
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self._device())
        pixels = pixels.permute(2, 0, 1).float()
        scale = self._short_side / min(height, width)
        size = (max(1, int(height * scale + 1e-6)), max(1, int(width * scale + 1e-6)))
        resized = torch.nn.functional.interpolate(
            pixels[None], size=size, mode='bicubic', align_corners=False, antialias=True
        )
        return resized[0].round().clamp(0, 255)

    def _device(self) -> Any:
        return self._model.decoder.class_embed.device

    def _region(self, features: Any, box: PixelBox, seed: int, size: tuple[int, ...]) -> Any:
        """What a box of an image of this size shows, to be found in it or in others."""
        import torch

        filled = torch.from_numpy(_filled(box, (size[0], size[1]), features.size))
        # For each box anew: its mask does not depend on which others are asked for.
        generator = torch.Generator().manual_seed(seed)
        return self._model.region(features, filled.to(self._device()), generator)

    def _provenance(
        self, request: Request, prompt: str, start: float, notices: tuple[str, ...] = ()
    ) -> Provenance:
        effective = {
            'prompt': prompt,
            'short_side': self._short_side,
            'device': self._device_name,
        }
        return Provenance(
            self.name,
            'torch',
            self._weights,
            request.seed,
            effective,
            (time.perf_counter() - start) * 1000,
            self._device_name,
            'float32',
            notices,
        )

    def _words(self, phrase: str) -> Any:
        if not phrase.strip():
            raise ExpertError(
                f'expert {self.name!r} was asked to find a thing by its phrase and got none: name '
                'it, or use the prompt region'
            )
        if self._tokens is None:
            from unifiedmllm_ros.experts.seem.prompts import PromptTokens

            path = self._path.parent / 'tokenizer.json'
            self._tokens = PromptTokens(path, self._model.config.context)
        return self._tokens(phrase)


class Seem(SeemWeights):
    """SEEM on an image, with the options of `SeemWeights`."""

    def run(self, request: Request, progress: OnProgress, cancel: Cancel) -> SegmentationResult:
        """Segment every box of the request; the image is looked at once."""
        import torch

        start = time.perf_counter()
        prompt = known_prompt(request.parameters.get('prompt', self._prompt), self.name)
        image = needed_image(request, self.name)
        self.load()
        what, masks = f'expert {self.name}', []
        check(cancel, what)
        progress(Progress('image', 0.0))
        with torch.inference_mode():
            features = self._model.features(self._tensor(image))
            for index, box in enumerate(request.boxes, start=1):
                check(cancel, what)
                progress(Progress('segment', index / (len(request.boxes) + 1)))
                logits = self._find(features, box, prompt, request.seed, image.shape[:2])
                masks.append(mask_of(resized(logits[None], image.shape[:2])[0], box, self.name))
        progress(Progress('segment', 1.0))
        return SegmentationResult(self._provenance(request, prompt, start), tuple(masks))

    def _find(
        self, features: Any, box: PixelBox, prompt: str, seed: int, size: tuple[int, ...]
    ) -> Any:
        if prompt == 'text':
            ids, attended = (part.to(self._device()) for part in self._words(box.phrase))
            return self._model.find_text(features, ids, attended).mask
        region = self._region(features, box, seed, size)
        return self._model.find_region(features, region).mask


def known_prompt(prompt: str, name: str) -> str:
    if prompt not in PROMPTS:
        raise ConfigError(f'expert {name!r}: prompt {prompt!r} is none of {", ".join(PROMPTS)}')
    return prompt


def _filled(box: PixelBox, size: tuple[int, int], resized: tuple[int, int]) -> NDArray[np.bool_]:
    """The box, filled, in the resized image; at least one pixel."""
    y, x = resized[0] / size[0], resized[1] / size[1]
    top, left = min(round(box.top * y), resized[0] - 1), min(round(box.left * x), resized[1] - 1)
    mask = np.zeros(resized, dtype=bool)
    mask[top : max(round(box.bottom * y), top + 1), left : max(round(box.right * x), left + 1)] = 1
    return mask


def resized(logits: Any, size: tuple[int, ...]) -> Any:
    """(n, h, w) logits at another size, (n, *size)."""
    import torch

    return torch.nn.functional.interpolate(
        logits[None].float(), size=tuple(size), mode='bilinear', align_corners=False
    )[0]
