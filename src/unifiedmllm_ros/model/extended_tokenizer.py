"""A published language model's tokenizer, extended for the unified representation.

The ids of its text stay what they are. Behind them come the pieces that must be one token (glue of
boxes, entities, the numbers 0.000 to 1.000), then chat tokens, markers and placeholders of media.
Words are split by our rule, which is GPT-2's, so that numbers and glue come out whole.

Byte-level vocabularies (GPT-2, SmolLM2, Qwen, Llama 3) are taken as they are. Those of
SentencePiece with byte fallback (Llama 1 and 2, Vicuna, Mistral) are spelled anew in the byte-level
alphabet; their characters outside ASCII that stand alone become the tokens of their bytes.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tokenizers import Tokenizer, decoders, models

from unifiedmllm_ros.errors import ModelFileError
from unifiedmllm_ros.model.tokenizer import (
    BOX_GLUE,
    CHAT_TOKENS,
    ENTITIES,
    MEDIA_TOKENS,
    NUMBERS,
    add_special,
    byte_level,
    byte_symbols,
    pre_tokenizer,
)
from unifiedmllm_ros.representation import MARKERS

_BYTE = re.compile(r'<0x([0-9A-F]{2})>')
_SPACE = '\u2581'


def extend_tokenizer(base: Tokenizer) -> Tokenizer:
    """A copy with the tokens that the representation and the media need.

    Raises ModelFileError for a tokenizer that is no BPE over bytes.
    """
    spec = json.loads(base.to_str())
    if spec['model'].get('type') != 'BPE':
        raise ModelFileError(f'tokenizer is of kind {spec["model"].get("type")}: BPE is supported')
    vocab, merges = _vocabulary(spec)
    symbols = byte_symbols().values()
    if sum(symbol not in vocab for symbol in symbols) > 128:
        raise ModelFileError('tokenizer knows too few of the 256 bytes: it is not byte-level')
    following = known_tokens(base)
    # Bytes that no text has in UTF-8 may be missing.
    for piece in (*symbols, *map(byte_level, (*BOX_GLUE, *ENTITIES))):
        if piece not in vocab:
            vocab[piece] = following
            following += 1
    for piece in map(byte_level, NUMBERS):  # in a row, whatever the vocabulary had of them
        vocab[piece] = following
        following += 1
    return _built(vocab, merges, spec['added_tokens'])


def known_tokens(tokenizer: Tokenizer) -> int:
    """How many ids a tokenizer has: one more than its largest."""
    return int(max(tokenizer.get_vocab(with_added_tokens=True).values())) + 1


def _built(
    vocab: dict[str, int], merges: list[tuple[str, str]], added: list[dict[str, Any]]
) -> Tokenizer:
    for token in added:  # those beside the vocabulary keep their ids by standing in it
        vocab.setdefault(token['content'], token['id'])
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    add_special(tokenizer, [token['content'] for token in added if token['special']])
    add_special(tokenizer, (*CHAT_TOKENS, *MARKERS, *MEDIA_TOKENS))
    return tokenizer


def _vocabulary(spec: dict[str, Any]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    vocab: dict[str, int] = spec['model']['vocab']
    pairs = [m if isinstance(m, list) else m.split(' ') for m in spec['model']['merges']]
    merges = [(left, right) for left, right in pairs]
    if not spec['model'].get('byte_fallback'):
        return dict(vocab), merges
    spelled: dict[str, int] = {}
    # Characters before bytes: a byte that a character spells keeps its id under a name that no text
    # has.
    for token in sorted(vocab, key=lambda token: _BYTE.fullmatch(token) is not None):
        name = _spelled(token)
        spelled[name if name not in spelled else token] = vocab[token]
    merges = [(_spelled(left), _spelled(right)) for left, right in merges]
    return spelled, [pair for pair in merges if {*pair, ''.join(pair)} <= spelled.keys()]


def _spelled(token: str) -> str:
    byte = _BYTE.fullmatch(token)
    if byte:
        return byte_symbols()[int(byte[1], 16)]
    return byte_level(token.replace(_SPACE, ' '))
