"""The bytes that each token of a tokenizer writes."""

from __future__ import annotations

import json
import re
from typing import Any

from unifiedmllm_ros.errors import ConfigError

_BYTE = re.compile(r'<0x([0-9A-F]{2})>')


def token_bytes(tokenizer: Any, size: int) -> list[bytes]:
    """Return the bytes of ids 0 to size - 1, b'' for control tokens and ids without a token.

    Knows byte-level tokenizers (Qwen, Llama 3, GPT-2) and those of SentencePiece with byte
    fallback (Llama 2, Gemma). Raises ConfigError for others.
    """
    spell = _spelling(tokenizer)
    special = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    spelled = [b''] * size
    for token, number in tokenizer.get_vocab().items():
        if number < size and number not in special:
            spelled[number] = spell(token)
    return spelled


def _spelling(tokenizer: Any) -> Any:
    backend = getattr(tokenizer, 'backend_tokenizer', None)
    if backend is None:
        raise ConfigError('constrained needs a tokenizer.json (a fast tokenizer)')
    decoder = json.dumps(json.loads(backend.to_str()).get('decoder') or {})
    if '"ByteLevel"' in decoder:
        table = _byte_level()
        return lambda token: bytes(table[c] for c in token) if set(token) <= table.keys() else b''
    if '"ByteFallback"' in decoder:
        return _sentence_piece
    raise ConfigError(
        'constrained works with byte-level and SentencePiece tokenizers; this one is neither'
    )


def _sentence_piece(token: str) -> bytes:
    if match := _BYTE.fullmatch(token):
        return bytes([int(match[1], 16)])
    return token.replace('▁', ' ').encode()


def _byte_level() -> dict[str, int]:
    """GPT-2's table: printable Latin-1 stands for itself, the other bytes for U+0100 and on."""
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in plain]
    table = {chr(byte): byte for byte in plain}
    return table | {chr(0x100 + place): byte for place, byte in enumerate(others)}
