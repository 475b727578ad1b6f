"""PaliGemma and PaliGemma 2, run here: the picture's tokens, `<bos>`, the task prompt.

Source: processing_paligemma of transformers, with which the tests compare it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unifiedmllm_ros.model.adapters.base import Adapter, Message, Size
from unifiedmllm_ros.runtime.local.family import (
    Picture,
    Seen,
    Tensors,
    load_image_processor,
    load_tokenizer,
    one_row,
)
from unifiedmllm_ros.runtime.local.plain_text import PlainText


class PaliGemmaFamily:
    """Prompts and preprocessing of one checkpoint."""

    def __init__(self, folder: Path, adapter: Adapter, config: dict[str, Any]) -> None:
        """Load tokenizer and preprocessing. Raises ModelFileError."""
        self.adapter = adapter
        self.tokenizer = load_tokenizer(folder)
        self._pictures = load_image_processor(folder)
        self._plain = PlainText(self.tokenizer)
        vision = config.get('vision_config') or {}
        side = int(vision.get('image_size', 224)) // int(vision.get('patch_size', 14))
        image = int(config.get('image_token_index', config.get('image_token_id', 256000)))
        self._tokens = (image,) * side**2

    def look(self, image: Picture) -> Seen:
        """Preprocess an image; see Family."""
        pixels = self._pictures(images=image, return_tensors='pt')['pixel_values']
        return Seen(Size(image.shape[1], image.shape[0]), {'pixel_values': pixels}, self._tokens)

    def inputs(self, messages: Sequence[Message], seen: Seen) -> Tensors:
        """Write the task prompt, which ends in a newline; see Family."""
        import torch

        text = self._plain.ids(messages[-1].text)
        inputs = one_row([*seen.tokens, self.tokenizer.bos_token_id, *text])
        prefix = torch.zeros_like(inputs['input_ids'])
        return {**inputs, 'token_type_ids': prefix, **seen.tensors}

    def text(self, ids: Sequence[int]) -> str:
        """Return the answer with its location tokens, which are no special ones."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))
