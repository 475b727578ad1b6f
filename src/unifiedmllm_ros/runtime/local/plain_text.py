"""Text of users and templates as token ids, none of which is a control token.

A tokenizer turns `<|im_end|>` or `<loc_0>` typed by a user into the control token of that name.
Here such text is broken inside the name, so that it stays text.
"""

from __future__ import annotations

import re
from typing import Any


class PlainText:
    """Tokenises with a tokenizer of transformers."""

    def __init__(self, tokenizer: Any) -> None:
        """Take note of all added tokens."""
        self.tokenizer = tokenizer
        names = {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}
        # Tokens of one character cannot be broken; they are dropped.
        single = ''.join(re.escape(name) for name in names if len(name) == 1)
        self._single = re.compile(f'[{single}]') if single else None
        longer = sorted((name for name in names if len(name) > 1), key=len, reverse=True)
        self._names = re.compile('|'.join(map(re.escape, longer))) if longer else None
        self._special = frozenset(tokenizer.convert_tokens_to_ids(name) for name in names)

    def ids(self, text: str) -> list[int]:
        """Return the ids of text; no control token is among them."""
        if self._single is not None:
            text = self._single.sub(' ', text)
        ids: list[int] = []
        for piece in self._pieces(text):
            ids += self.tokenizer(piece, add_special_tokens=False)['input_ids']
        # What a normaliser puts together in spite of that is left out.
        return [one for one in ids if one not in self._special]

    def token(self, name: str) -> int:
        """Return the id of one control token. Raises KeyError where there is none."""
        found = self.tokenizer.convert_tokens_to_ids(name)
        if found is None or self.tokenizer.convert_ids_to_tokens(found) != name:
            raise KeyError(name)
        return int(found)

    def _pieces(self, text: str) -> list[str]:
        pieces, start = [], 0
        while self._names is not None and (match := self._names.search(text, start)):
            pieces.append(text[start : match.start() + 1])
            start = match.start() + 1
        pieces.append(text[start:])
        return [piece for piece in pieces if piece]
