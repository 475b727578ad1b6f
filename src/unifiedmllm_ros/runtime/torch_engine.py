"""The reference engine: the model as it was trained, in torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from unifiedmllm_ros.errors import GpuMemoryError, MissingExtraError, ModelError, ModelFileError
from unifiedmllm_ros.runtime.engine import Array, EngineInfo, Row, check_medium, check_rows
from unifiedmllm_ros.runtime.manifest import (
    DEFAULT_LENGTH,
    FORMAT,
    AudioShape,
    Manifest,
    VideoShape,
)


class TorchCache:
    """Keys and values (1, heads, length, width) of each layer; steps make new ones."""

    def __init__(self, layers: tuple[tuple[Any, Any], ...] = ()) -> None:
        self.layers = layers

    @property
    def length(self) -> int:
        """Positions held."""
        return int(self.layers[0][0].shape[2]) if self.layers else 0

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on."""
        if not 0 <= length <= self.length:
            raise ValueError(f'cannot truncate a cache of {self.length} positions to {length}')
        self.layers = tuple((k[:, :, :length], v[:, :, :length]) for k, v in self.layers)
        if not length:
            self.layers = ()

    def fork(self) -> TorchCache:
        """Return a cache of the same sequence that goes its own way."""
        return TorchCache(self.layers)


class TorchEngine:
    """Runs a UnifiedMLLMForConditionalGeneration. See Engine for its methods."""

    def __init__(self, model: Any, name: str, max_length: int = DEFAULT_LENGTH) -> None:
        """Take a model, with a LoRAMoE adapter or without, where and in what type it is."""
        import torch

        self._torch = torch
        unwrap = getattr(model, 'get_base_model', None)
        self._model: Any = (model if unwrap is None else unwrap()).eval()
        weight = next(self._model.language_model.parameters())
        self._device, self._dtype = weight.device, weight.dtype
        text = self._model.config.text_config
        self._info = EngineInfo(
            backend=f'torch {torch.__version__.split("+")[0]}',
            precision=_NAMES.get(str(weight.dtype), str(weight.dtype)),
            model=name,
            device='cpu' if weight.device.type == 'cpu' else f'cuda:{weight.device.index or 0}',
            max_length=min(max_length, text.max_position_embeddings),
        )

    @classmethod
    def load(cls, folder: str | Path, precision: str = 'auto', device: str = 'auto') -> Self:
        """Load a model folder with config.json and model.safetensors.

        device: 'cpu', 'cuda', or 'auto' for a GPU where torch sees one. precision: 'fp32', 'fp16',
        'bf16', or 'auto' for fp32 on the CPU and on a GPU for the halves that the weights are
        stored in, else bf16. Raises ModelFileError, MissingExtraError, GpuMemoryError.
        """
        folder = Path(folder)
        if not (folder / 'config.json').is_file():
            raise ModelFileError(f'{folder} holds no config.json: give the folder of a model')
        try:
            import torch

            from unifiedmllm_ros.model.modeling import UnifiedMLLMForConditionalGeneration
            from unifiedmllm_ros.model.precision import convert
        except ModuleNotFoundError as error:
            raise MissingExtraError.naming(error.name or 'torch', 'train') from error
        if device == 'auto':
            device = 'cuda' if torch.cuda.is_available() else 'cpu'
        dtypes = {name: kind for kind, name in _NAMES.items()}
        if precision not in ('auto', *dtypes):
            raise ModelFileError(
                f'torch computes in {", ".join(_NAMES.values())}, not in {precision}'
            )
        model = UnifiedMLLMForConditionalGeneration.from_pretrained(folder)
        if precision == 'auto':
            precision = fitting_precision(str(model.config.dtype), device)
        dtype = getattr(torch, dtypes[precision].removeprefix('torch.'))
        try:
            model = convert(model, dtype).to(device)
        except torch.OutOfMemoryError as error:
            raise GpuMemoryError(
                f'{folder}: out of GPU memory ({error}); choose the backend onnxruntime'
            ) from error
        return cls(model, folder.name)

    @property
    def info(self) -> EngineInfo:
        """What runs."""
        return self._info

    @property
    def manifest(self) -> Manifest:
        """What the model is, in the words of a manifest without graphs."""
        config = self._model.config
        text, size = config.text_config, config.vision_config.image_size
        video, audio = config.video_config, self._model.audio_tower
        return Manifest(
            format=FORMAT,
            model=self._info.model,
            graphs={},
            layers=text.num_hidden_layers,
            kv_heads=text.num_key_value_heads,
            head_dim=text.hidden_size // text.num_attention_heads,
            hidden=text.hidden_size,
            vocab=text.vocab_size,
            image_size=(size, size) if isinstance(size, int) else tuple(size),
            visual_tokens=config.visual_tokens,
            max_length=self._info.max_length,
            precision=self._info.precision,
            video=video and VideoShape(frames=video.frames, tokens=video.tokens),
            audio=audio
            and AudioShape(samples=audio.samples, rate=audio.settings.rate, tokens=audio.tokens),
        )

    def encode_image(self, pixels: Array) -> Array:
        """Turn pixels [1, 3, H, W] (RGB in 0..1) into visual tokens [N, D]."""
        return self.encode_images(pixels)[0]

    def encode_images(self, pixels: Array) -> Array:
        """Turn pixels [B, 3, H, W] (RGB in 0..1) into visual tokens [B, N, D]."""
        return self._encoded('image', pixels)

    def encode_video(self, frames: Array) -> Array:
        """Turn frames [F, 3, H, W] into tokens [N, D]; ConfigError without a video branch."""
        video = self._model.config.video_config
        check_medium(self._info.model, 'video', video and (video.frames,), frames.shape[:1])
        return self._encoded('video', frames[None])[0]

    def encode_audio(self, wave: Array) -> Array:
        """Turn a segment [samples] in -1..1 into tokens [N, D]; ConfigError without a branch."""
        tower = self._model.audio_tower
        check_medium(self._info.model, 'audio', tower and (tower.samples,), wave.shape)
        return self._encoded('audio', wave[None])[0]

    def new_cache(self) -> TorchCache:
        """Return a cache of the empty sequence."""
        return TorchCache()

    def step(
        self,
        ids: Sequence[int],
        cache: TorchCache,
        features: Array | None = None,
        last: int | None = None,
    ) -> Array:
        """Append to one sequence; see Engine.step."""
        return self.step_all([Row.after(features, ids, cache, last)])[0]

    def step_all(self, rows: Sequence[Row]) -> list[Array]:
        """Append to sequences, one after the other; see Engine.step_all."""
        check_rows(self._info, rows)
        before = [row.cache.layers for row in rows]
        try:
            return [self._step(row) for row in rows]
        except (RuntimeError, IndexError) as error:
            for row, layers in zip(rows, before, strict=True):
                row.cache.layers = layers
            raise self._failure(error) from error

    def _step(self, row: Row) -> Array:
        from transformers import DynamicCache

        torch = self._torch
        with torch.inference_mode():
            embedded = self._model.get_input_embeddings()(
                torch.tensor([row.ids], device=self._device)
            )
            parts, start = [], 0
            places = np.arange(len(row.ids))
            for before, features in row.pictures:
                parts += [embedded[:, start:before], self._tensor(features)[None]]
                start = before
                places[before:] += len(features)
            embedded = torch.cat((*parts, embedded[:, start:]), dim=1)
            past = DynamicCache()
            for layer, (keys, values) in enumerate(row.cache.layers):
                past.update(keys, values, layer)
            output = self._model.language_model(
                inputs_embeds=embedded,
                past_key_values=past,
                use_cache=True,
                logits_to_keep=torch.from_numpy(places[-row.wanted :]).to(self._device),
            )
            row.cache.layers = tuple((layer.keys, layer.values) for layer in past.layers)
            return np.asarray(output.logits[0].float().cpu())

    def _encoded(self, medium: str, values: Array) -> Array:
        """Encode a batch; medium: 'image', 'video' or 'audio'."""
        encode = getattr(self._model, f'encode_{medium}')
        try:
            with self._torch.inference_mode():
                return np.asarray(encode(self._tensor(values)).float().cpu())
        except RuntimeError as error:
            raise self._failure(error) from error

    def _tensor(self, values: Array) -> Any:
        return self._torch.from_numpy(np.ascontiguousarray(values)).to(self._device, self._dtype)

    def _failure(self, error: Exception) -> Exception:
        if isinstance(error, self._torch.OutOfMemoryError):
            return GpuMemoryError(
                f'{self._info.model}: out of GPU memory ({error}); shorten the conversation or '
                'choose the backend onnxruntime'
            )
        return ModelError(f'{self._info.model} failed in torch: {error}')


def fitting_precision(stored: str, device: str) -> str:
    """Return what to compute in where weights are stored as `stored`, such as 'torch.float16'."""
    if device == 'cpu':
        return 'fp32'
    return 'fp16' if stored == 'torch.float16' else 'bf16'


def cuda_available() -> bool:
    """Return whether torch is here and sees a GPU."""
    try:
        import torch
    except ModuleNotFoundError:
        return False
    return torch.cuda.is_available()


_NAMES = {'torch.float32': 'fp32', 'torch.float16': 'fp16', 'torch.bfloat16': 'bf16'}
