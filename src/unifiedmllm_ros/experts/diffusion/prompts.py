"""Prompts and the length that a text encoder reads."""

from __future__ import annotations

from typing import Any

# Tokenizers without a limit say some 10^30.
_UNLIMITED = 10**6


def tokenizers(pipeline: Any) -> tuple[Any, ...]:
    """Return the tokenizers of a pipeline that have a limit."""
    found = (getattr(pipeline, name, None) for name in ('tokenizer', 'tokenizer_2', 'tokenizer_3'))
    return tuple(
        one
        for one in found
        if one is not None and getattr(one, 'model_max_length', _UNLIMITED) < _UNLIMITED
    )


def truncation_notices(pipeline: Any, prompt: str, what: str) -> tuple[str, ...]:
    """Return one sentence for each length at which a text encoder cuts `prompt` off.

    what: what the prompt is called, such as 'prompt'.
    """
    notices: dict[str, None] = {}
    for tokenizer in tokenizers(pipeline):
        limit = tokenizer.model_max_length
        surplus = _length(tokenizer, prompt) - limit
        if surplus > 0:
            notices[
                f'The last {surplus} tokens of the {what} were left out: its text encoder reads '
                f'{limit} tokens.'
            ] = None
    return tuple(notices)


def fitting(tokenizer: Any, text: str) -> str:
    """Return the longest beginning of a text that the tokenizer takes whole, found by halving.

    For pipelines that do not cut off themselves.
    """
    limit = tokenizer.model_max_length
    if _length(tokenizer, text) <= limit:
        return text
    low, high = 0, len(text) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if _length(tokenizer, text[:middle]) <= limit:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip()


def _length(tokenizer: Any, text: str) -> int:
    # `verbose` only speaks of lengths, which are dealt with here.
    return len(tokenizer(text, truncation=False, verbose=False).input_ids)
