"""The tokenizer of the small presets: byte-level BPE in which a coordinate is one token.

Knows how text becomes ids. Knows nothing of images or of prompt layout (see processing.py).

Three kinds of ids, in this order:

- text: byte-level BPE learnt on a corpus, so that any Unicode text encodes and decodes exactly;
- numbers: `0.000` ... `1.000`, 1001 consecutive ids, found in text by a pre-tokeniser rule;
- markers and chat tokens: special added tokens, never reachable from text encoded as user text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from unifiedmllm_ros.representation import MARKERS

BOS: Final = '<bos>'
EOS: Final = '<eos>'
PAD: Final = '<pad>'
IMAGE: Final = '<image>'
USER: Final = '<user>'
ASSISTANT: Final = '<assistant>'
CHAT_TOKENS: Final = (PAD, BOS, EOS, IMAGE, USER, ASSISTANT)
VIDEO: Final = '<video>'
AUDIO: Final = '<audio>'
MEDIA_TOKENS: Final = (VIDEO, AUDIO)
"""Placeholders that only tokenizers of models with those branches have, behind all others."""

NUMBER_STEPS: Final = 1000
NUMBERS: Final = tuple(f'{step / NUMBER_STEPS:.3f}' for step in range(NUMBER_STEPS + 1))
BOX_GLUE: Final = ('[', ', ', ']')
ENTITIES: Final = ('&amp;', '&lt;', '&gt;')

_NUMBER = r'(?:0\.[0-9]{3}|1\.000)(?![0-9])'
# First the pieces that must stay whole, then the GPT-2 word rule without '&' (an entity's start).
_PIECES = '|'.join(
    (
        '&(?:amp|lt|gt);',
        rf'(?<![0-9.]){_NUMBER}',
        rf',? (?={_NUMBER})',
        r"'(?:[sdmt]|ll|ve|re)",
        r' ?\p{L}+',
        r' ?\p{N}+',
        r' ?[^\s\p{L}\p{N}&]+',
        r'\s+(?!\S)',
        r'\s+',
    )
)


def build_tokenizer(corpus: Iterable[str], vocab_size: int = 2500) -> Tokenizer:
    """Learn a tokenizer from lines of questions and answers.

    `vocab_size` counts the text part only (at least 256, one id per byte); numbers, markers and
    chat tokens come on top. Markers and numbers in the corpus are skipped. Deterministic for a
    given corpus.
    """
    vocab, merges = _learn(corpus, vocab_size)
    for piece in (*BOX_GLUE, *ENTITIES, *NUMBERS):
        vocab.setdefault(byte_level(piece), len(vocab))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    add_special(tokenizer, (*CHAT_TOKENS, *MARKERS))
    return tokenizer


def add_special(tokenizer: Tokenizer, tokens: Iterable[str]) -> None:
    """Add tokens that no text reaches; those that are there stay as they are."""
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in tokens]
    )


def byte_level(text: str) -> str:
    """Spell text in the printable alphabet of byte-level vocabularies (one symbol a byte)."""
    symbols = byte_symbols()
    return ''.join(symbols[byte] for byte in text.encode('utf-8'))


def token_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """Return what each id stands for, as UTF-8 bytes, indexed by id."""
    bytes_of = {symbol: bytes([byte]) for byte, symbol in byte_symbols().items()}
    added = tokenizer.get_added_tokens_decoder()
    spelled = [b''] * tokenizer.get_vocab_size(with_added_tokens=True)
    for token, index in tokenizer.get_vocab(with_added_tokens=True).items():
        if index in added:
            spelled[index] = token.encode('utf-8')
        else:
            spelled[index] = b''.join(bytes_of[symbol] for symbol in token)
    return spelled


def _learn(corpus: Iterable[str], vocab_size: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=max(vocab_size, 256),
        initial_alphabet=sorted(byte_symbols().values()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_plain(corpus), trainer=trainer)
    model = json.loads(tokenizer.to_str())['model']
    return dict(model['vocab']), [(left, right) for left, right in model['merges']]


def _plain(corpus: Iterable[str]) -> Iterator[str]:
    skipped = re.compile('|'.join([*map(re.escape, MARKERS), r'[01]\.[0-9]{3}(?:, )?']))
    for line in corpus:
        yield from (piece for piece in skipped.split(line) if piece)


def pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """What splits text into the pieces that stay whole, then into words."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior='isolated'),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def byte_symbols() -> dict[int, str]:
    """Each byte's symbol in GPT-2's byte-level alphabet."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    symbols = {byte: chr(byte) for byte in printable}
    hidden = (byte for byte in range(256) if byte not in symbols)
    symbols.update({byte: chr(0x100 + offset) for offset, byte in enumerate(hidden)})
    return symbols
