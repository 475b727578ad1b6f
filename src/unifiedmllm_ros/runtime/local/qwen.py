"""Qwen2.5-VL, Qwen3-VL and later ones, run here: ChatML, patches of 2 frames, timestamps.

Preprocessing is our own numpy, because the published one for videos needs torchvision: sides to
multiples of a merged patch (`smart_resize`), bicubic resizing, mean and deviation of the
checkpoint, patches in blocks of merge_size x merge_size, each with temporal_patch_size frames. An
image counts as a frame that is repeated. Source: image_processing_qwen2_vl and
video_processing_qwen3_vl of transformers, with which the tests compare it; prompts are those of
the published chat templates.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unifiedmllm_ros.errors import ImageError, ModelFileError
from unifiedmllm_ros.model.adapters.base import Adapter, Message, Size
from unifiedmllm_ros.model.adapters.qwen import smart_resize
from unifiedmllm_ros.runtime.local.family import Picture, Seen, Tensors, load_tokenizer, one_row
from unifiedmllm_ros.runtime.local.plain_text import PlainText

VIDEO_TOKENS = 768
"""Most tokens of a video; published checkpoints allow more than a robot has time for."""
MAX_RATIO = 200
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True)
class PatchRule:
    """A checkpoint's preprocessor_config.json."""

    patch: int
    merge: int
    frames: int
    min_pixels: int
    max_pixels: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def read(cls, folder: Path) -> PatchRule:
        """Read it. Raises ModelFileError."""
        path = folder / 'preprocessor_config.json'
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
            size = content.get('size') or {}
            mean, deviation = (
                tuple(float(value) for value in content.get(name, default))
                for name, default in zip(('image_mean', 'image_std'), _CLIP, strict=True)
            )
            rule = cls(
                int(content.get('patch_size', 14)),
                int(content.get('merge_size', 2)),
                int(content.get('temporal_patch_size', 2)),
                int(content.get('min_pixels') or size.get('shortest_edge') or 56 * 56),
                int(content.get('max_pixels') or size.get('longest_edge') or 28 * 28 * 1280),
                mean,
                deviation,
            )
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ModelFileError(f'{path} cannot be used: {error}') from error
        if min(rule.patch, rule.merge, rule.frames, rule.min_pixels) < 1 or len(rule.mean) != 3:
            raise ModelFileError(f'{path} cannot be used: sizes are 1 or more, colours three')
        return rule

    @property
    def factor(self) -> int:
        """Pixels of a merged patch's side."""
        return self.patch * self.merge

    def size(self, image: Size, max_pixels: int = 0) -> Size:
        """Return the size to which an image is brought. Raises ImageError for a strip."""
        if max(image.width, image.height) > MAX_RATIO * min(image.width, image.height):
            raise ImageError(
                f'image is {image.width}x{image.height}: Qwen-VL takes no side more than '
                f'{MAX_RATIO} times the other; crop it'
            )
        most = min(self.max_pixels, max_pixels or self.max_pixels)
        return smart_resize(image, self.factor, min(self.min_pixels, most), most)

    def video_size(self, frames: int, image: Size) -> Size:
        """Return the size for each of some frames, so that all stay within the budget."""
        share = max(1, VIDEO_TOKENS // -(-frames // self.frames)) * self.factor**2
        return self.size(image, share)

    def patches(self, frames: Sequence[Picture], size: Size) -> tuple[npt.NDArray[np.float32], int]:
        """Return patches [N, 3 * frames * patch * patch] and how many steps in time there are."""
        stack = np.stack([_resized(frame, size) for frame in frames]).astype(np.float32) / 255
        stack = (stack - np.asarray(self.mean, np.float32)) / np.asarray(self.deviation, np.float32)
        missing = -len(stack) % self.frames
        stack = np.concatenate([stack, np.repeat(stack[-1:], missing, axis=0)])
        steps = len(stack) // self.frames
        rows, columns = size.height // self.factor, size.width // self.factor
        shape = (steps, self.frames, rows, self.merge, self.patch, columns, self.merge, self.patch)
        # To [step, row, column, row in block, column in block, colour, frame, y, x].
        ordered = stack.reshape(*shape, 3).transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)
        count = steps * rows * columns * self.merge**2
        return np.ascontiguousarray(ordered.reshape(count, -1)), steps


def _resized(image: Picture, size: Size) -> Picture:
    from PIL import Image

    if image.shape[:2] == (size.height, size.width):
        return image
    resized = Image.fromarray(image).resize((size.width, size.height), Image.Resampling.BICUBIC)
    return np.asarray(resized, np.uint8)


class QwenFamily:
    """Prompts and preprocessing of one checkpoint."""

    def __init__(self, folder: Path, adapter: Adapter, config: dict[str, Any]) -> None:
        """Load tokenizer and rules. Raises ModelFileError."""
        self.adapter = adapter
        self.tokenizer = load_tokenizer(folder)
        self.rule = PatchRule.read(folder)
        self._plain = PlainText(self.tokenizer)
        # Later versions write the time before each step of a video; the first puts it elsewhere.
        self._timed = config.get('model_type') != 'qwen2_5_vl'
        try:
            names = ('<|im_start|>', '<|im_end|>', '<|vision_start|>', '<|vision_end|>')
            self._start, self._end, self._open, self._close = map(self._plain.token, names)
            self._image = self._plain.token('<|image_pad|>')
            self._video = self._plain.token('<|video_pad|>')
        except KeyError as error:
            raise ModelFileError(f'{folder}: the tokenizer has no token {error}') from error

    def look(self, image: Picture) -> Seen:
        """Preprocess an image; see Family."""
        import torch

        whole = Size(image.shape[1], image.shape[0])
        size = self.rule.size(whole)
        patches, _ = self.rule.patches([image], size)
        grid = self._grid(1, size)
        tokens = (self._open, *[self._image] * self._count(grid), self._close)
        tensors = {
            'pixel_values': torch.from_numpy(patches),
            'image_grid_thw': torch.tensor([grid]),
        }
        return Seen(whole, tensors, tokens, size)

    def watch(self, frames: Sequence[Picture], seconds: float) -> Seen:
        """Preprocess frames of a video of one size, at equal distances over `seconds`."""
        import torch

        whole = Size(frames[0].shape[1], frames[0].shape[0])
        size = self.rule.video_size(len(frames), whole)
        patches, steps = self.rule.patches(frames, size)
        grid = self._grid(steps, size)
        apart = seconds / max(1, len(frames) - 1)
        tensors: Tensors = {
            'pixel_values_videos': torch.from_numpy(patches),
            'video_grid_thw': torch.tensor([grid]),
        }
        if self._timed:
            tokens = self._timed_tokens(steps, self._count(grid) // steps, apart, len(frames))
        else:
            tokens = (self._open, *[self._video] * self._count(grid), self._close)
            tensors['second_per_grid_ts'] = torch.tensor([apart * self.rule.frames])
        return Seen(whole, tensors, tokens, size, kind=2)

    def inputs(self, messages: Sequence[Message], seen: Seen) -> Tensors:
        """Write a conversation in ChatML; see Family."""
        import torch

        ids: list[int] = []
        for message in messages:
            ids.append(self._start)
            if message.image:
                ids += [*self._plain.ids(f'{message.role}\n'), *seen.tokens]
                ids += self._plain.ids(message.text)
            else:
                ids += self._plain.ids(f'{message.role}\n{message.text}')
            ids += [self._end, *self._plain.ids('\n')]
        ids += [self._start, *self._plain.ids('assistant\n')]
        inputs = one_row(ids)
        row = inputs['input_ids']
        kinds = (row == self._image).int() + 2 * (row == self._video).int()
        return {**inputs, 'mm_token_type_ids': kinds.to(torch.int32), **seen.tensors}

    def text(self, ids: Sequence[int]) -> str:
        """Return the answer without control tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _grid(self, steps: int, size: Size) -> list[int]:
        return [steps, size.height // self.rule.patch, size.width // self.rule.patch]

    def _count(self, grid: list[int]) -> int:
        return math.prod(grid) // self.rule.merge**2

    def _timed_tokens(self, steps: int, each: int, apart: float, count: int) -> tuple[int, ...]:
        """Before each step stands the mean time of its first and last frame."""
        tokens: list[int] = []
        for step in range(steps):
            first = step * self.rule.frames
            last = min(first + self.rule.frames, count) - 1
            moment = (min(first, count - 1) + last) / 2 * apart
            tokens += self._plain.ids(f'<{moment:.1f} seconds>')
            tokens += [self._open, *[self._video] * each, self._close]
        return tuple(tokens)
