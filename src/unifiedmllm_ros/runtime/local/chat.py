"""Any other chat model of transformers that looks at images, by its own processor and template.

For models without a file of their own here. What a user types goes through the model's template
as it is; names of control tokens are broken first, so that they stay text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.model.adapters.base import Adapter, Message, Size
from unifiedmllm_ros.runtime.local.family import Picture, Seen, Tensors


class ChatFamily:
    """Prompts and preprocessing of one checkpoint."""

    def __init__(self, folder: Path, adapter: Adapter) -> None:
        """Load its processor. Raises ConfigError where that needs libraries that are missing."""
        from transformers import AutoProcessor

        self.adapter = adapter
        try:
            self._processor = AutoProcessor.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
        except (ImportError, OSError, ValueError, KeyError, TypeError) as error:
            reason = ' '.join(str(error).split())[:300]
            raise ConfigError(
                f'{folder}: its processor cannot be loaded ({reason}). Models that need '
                'torchvision run on a server (docs/tethered.md)'
            ) from error
        self.tokenizer: Any = self._processor.tokenizer
        if not getattr(self._processor, 'chat_template', None):
            raise ConfigError(f'{folder} has no chat template: it is no chat model')
        self._names = sorted(
            {*self.tokenizer.get_added_vocab(), *self.tokenizer.all_special_tokens},
            key=len,
            reverse=True,
        )

    def look(self, image: Picture) -> Seen:
        """Keep an image: the processor needs it together with the text."""
        return Seen(Size(image.shape[1], image.shape[0]), {'image': image}, ())

    def inputs(self, messages: Sequence[Message], seen: Seen) -> Tensors:
        """Let the model's own template write the conversation; see Family."""
        from PIL import Image

        picture = Image.fromarray(seen.tensors['image'])
        chat = [
            {
                'role': message.role,
                'content': [
                    *([{'type': 'image', 'image': picture}] if message.image else []),
                    {'type': 'text', 'text': self._broken(message.text)},
                ],
            }
            for message in messages
        ]
        return dict(
            self._processor.apply_chat_template(
                chat,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors='pt',
            )
        )

    def text(self, ids: Sequence[int]) -> str:
        """Return the answer without control tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _broken(self, text: str) -> str:
        """A blank after the first character keeps the name of a token from being one."""
        for name in self._names:
            if name in text:
                text = text.replace(name, f'{name[0]} {name[1:]}' if len(name) > 1 else ' ')
        return text
