"""Kosmos-2, run here: `<s><image>`, 64 places for the picture, `</image>`, the text to complete.

Source: processing_kosmos2 of transformers, with which the tests compare it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unifiedmllm_ros.errors import ModelFileError
from unifiedmllm_ros.model.adapters.base import Adapter, Message, Size
from unifiedmllm_ros.model.adapters.kosmos2 import GRID
from unifiedmllm_ros.runtime.local.family import (
    Picture,
    Seen,
    Tensors,
    load_image_processor,
    load_tokenizer,
    one_row,
)


class Kosmos2Family:
    """Prompts and preprocessing of one checkpoint."""

    def __init__(self, folder: Path, adapter: Adapter, config: dict[str, Any]) -> None:
        """Load tokenizer and preprocessing. Raises ModelFileError."""
        self.adapter = adapter
        self.tokenizer = load_tokenizer(folder)
        self._pictures = load_image_processor(folder)
        last = f'<patch_index_{GRID * GRID - 1:04}>'
        for name in ('<image>', '</image>', '<grounding>', '<phrase>', last):
            if self.tokenizer.convert_tokens_to_ids(name) in (None, self.tokenizer.unk_token_id):
                raise ModelFileError(f'{folder}: the tokenizer has no token {name}')
        first = self.tokenizer.unk_token_id + 1
        count = int(config.get('latent_query_num', 64))
        begin, close = (self.tokenizer.convert_tokens_to_ids(n) for n in ('<image>', '</image>'))
        self._tokens = (begin, *range(first, first + count), close)

    def look(self, image: Picture) -> Seen:
        """Preprocess an image; see Family."""
        pixels = self._pictures(images=image, return_tensors='pt')['pixel_values']
        return Seen(Size(image.shape[1], image.shape[0]), {'pixel_values': pixels}, self._tokens)

    def inputs(self, messages: Sequence[Message], seen: Seen) -> Tensors:
        """Write the beginning that the model completes; its tags are tokens. See Family."""
        import torch

        # The adapter took < and > out of what the user said, so all tags here are its own.
        text = self.tokenizer(messages[-1].text, add_special_tokens=False)['input_ids']
        ids = [self.tokenizer.bos_token_id, *seen.tokens, *text]
        places = torch.zeros(1, len(ids), dtype=torch.long)
        places[0, 2 : len(seen.tokens)] = 1
        return {**one_row(ids), 'image_embeds_position_mask': places, **seen.tensors}

    def text(self, ids: Sequence[int]) -> str:
        """Return the answer with its tags."""
        control = {self.tokenizer.bos_token_id, self.tokenizer.eos_token_id}
        control.add(self.tokenizer.pad_token_id)
        kept = [one for one in ids if one not in control]
        return str(self.tokenizer.decode(kept, skip_special_tokens=False))
