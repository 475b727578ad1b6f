"""Florence-2, run here: a picture of fixed size, then `<s>`, the task's sentence, `</s>`.

Source: processing_florence2 of transformers, with which the tests compare it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unifiedmllm_ros.errors import ModelFileError
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


class Florence2Family:
    """Prompts and preprocessing of one checkpoint."""

    def __init__(self, folder: Path, adapter: Adapter, config: dict[str, Any]) -> None:
        """Load tokenizer and preprocessing. Raises ModelFileError."""
        self.adapter = adapter
        self.tokenizer = load_tokenizer(folder)
        self._pictures = load_image_processor(folder)
        self._plain = PlainText(self.tokenizer)
        self._image = int(config.get('image_token_id', 51289))
        length = getattr(self._pictures, 'image_seq_length', None)
        if not isinstance(length, int) or length < 1:
            raise ModelFileError(f'{folder}/preprocessor_config.json lacks image_seq_length')
        self._length = length

    def look(self, image: Picture) -> Seen:
        """Preprocess an image; see Family."""
        pixels = self._pictures(images=image, return_tensors='pt')['pixel_values']
        size = Size(image.shape[1], image.shape[0])
        return Seen(size, {'pixel_values': pixels}, (self._image,) * self._length)

    def inputs(self, messages: Sequence[Message], seen: Seen) -> Tensors:
        """Write the one sentence; see Family."""
        begin, end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        text = self._plain.ids(messages[-1].text)
        return {**one_row([*seen.tokens, begin, *text, end]), **seen.tensors}

    def text(self, ids: Sequence[int]) -> str:
        """Return the answer with its location tokens."""
        kept = [one for one in ids if one not in self.tokenizer.all_special_ids or self._place(one)]
        return str(self.tokenizer.decode(kept, skip_special_tokens=False))

    def _place(self, token: int) -> bool:
        # Published tokenizers list location tokens among the special ones.
        return str(self.tokenizer.convert_ids_to_tokens(token)).startswith(
            ('<loc_', '<poly', '<sep')
        )
