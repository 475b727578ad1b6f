"""Words as SEEM reads them: CLIP's tokens, padded to the context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from unifiedmllm_ros.errors import ModelFileError

TEMPLATES = ('a photo of a {}.',)


class PromptTokens:
    """A tokenizer.json of CLIP; begin and end tokens are put around every prompt.

    context: the number of tokens, padding (with the end token) included.
    """

    def __init__(self, path: Path, context: int) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer: Any = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises plain Exception
            raise ModelFileError(
                f'{path} is no tokenizer ({error}): text prompts need the tokenizer.json of '
                'openai/clip-vit-base-patch32 beside the weights'
            ) from error
        self._context = context
        self._begin, self._end = self._special('<|startoftext|>'), self._special('<|endoftext|>')

    def _special(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise ModelFileError(f'the tokenizer has no {token}: it is not that of CLIP')
        return int(found)

    def __call__(self, text: str) -> tuple[Any, Any]:
        """Return ids and attention mask, each (1, context); a text that is too long is cut."""
        words = self._tokenizer.encode(text, add_special_tokens=False).ids[: self._context - 2]
        ids = [self._begin, *words, self._end]
        padding = self._context - len(ids)
        attended = [1] * len(ids) + [0] * padding
        return torch.tensor([ids + [self._end] * padding]), torch.tensor([attended])

    def surplus(self, text: str) -> int:
        """Return how many tokens of a text are cut off."""
        count = len(self._tokenizer.encode(text, add_special_tokens=False).ids)
        return max(count - (self._context - 2), 0)

    def classes(self, names: tuple[str, ...], templates: tuple[str, ...] = TEMPLATES) -> Any:
        """Return the prompts of class names, (names, templates, context) ids."""
        return torch.stack(
            [torch.cat([self(form.format(name))[0] for form in templates]) for name in names]
        )
