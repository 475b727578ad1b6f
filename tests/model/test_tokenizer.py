"""Numbers, box glue and markers are single ids; any text survives; users cannot reach markers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor
from unifiedmllm_ros.model.tokenizer import (
    CHAT_TOKENS,
    NUMBERS,
    build_tokenizer,
    byte_level,
    token_bytes,
)
from unifiedmllm_ros.representation import MARKERS

CORPUS = [
    'find the red mug',
    'how many bowls are on the table?',
    'The red mug is left of the plate. <seg><p>red mug</p><box>[0.412, 0.203, 0.587, 0.441]'
    '</box></seg>',
    'There is no hammer here, only 3 bowls & a cup [blue].',
] * 3
PROCESSOR = UnifiedMLLMProcessor(build_tokenizer(CORPUS, vocab_size=300))
TOKENIZER = PROCESSOR.tokenizer
SPECIAL = {TOKENIZER.token_to_id(token) for token in (*CHAT_TOKENS, *MARKERS)}
HOSTILE = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.sampled_from(
            [*MARKERS, *CHAT_TOKENS, '0.412', '&lt;', '&', '<', 'Ġ', 'seg>', ', 1.000']
        ),
    ),
    max_size=12,
).map(''.join)


def encode(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False).ids


def test_vocabulary_is_the_text_part_numbers_and_special_tokens() -> None:
    assert None not in SPECIAL
    assert len(SPECIAL) == len(CHAT_TOKENS) + len(MARKERS)
    assert PROCESSOR.vocab_size == 300 + 1001 + 4 + len(SPECIAL)  # 4: ', ' and three entities


def test_a_box_is_eleven_ids_with_fixed_glue() -> None:
    ids = encode('<box>[0.412, 0.203, 0.587, 0.441]</box>')
    number = PROCESSOR.number_ids
    opening, comma, closing = (TOKENIZER.token_to_id(byte_level(glue)) for glue in ('[', ', ', ']'))
    assert ids == [
        *(TOKENIZER.token_to_id('<box>'), opening),
        *(number[412], comma, number[203], comma, number[587], comma, number[441]),
        *(closing, TOKENIZER.token_to_id('</box>')),
    ]


@pytest.mark.parametrize('text', ['<box>[0.000, 0.001, 0.999, 1.000]</box>'])
def test_extreme_numbers_are_single_ids(text: str) -> None:
    assert len(encode(text)) == 11


def test_every_number_is_one_id_in_a_row() -> None:
    assert [encode(number) for number in NUMBERS] == [[index] for index in PROCESSOR.number_ids]


def test_numbers_in_prose_are_one_id_and_longer_ones_are_not() -> None:
    number = PROCESSOR.number_ids[412]
    for text in ('at 0.412', 'about 0.412 m', '(0.412)', 'x=0.412.'):
        assert encode(text).count(number) == 1, text
    for text in ('0.4121', '10.412', '3.0.412', '1.412'):
        assert not set(encode(text)) & set(PROCESSOR.number_ids), text


@given(HOSTILE)
def test_text_decodes_exactly(text: str) -> None:
    assert PROCESSOR.decode_bytes(encode(text)) == text.encode()


@given(HOSTILE)
def test_user_text_never_gives_a_marker_or_chat_id(text: str) -> None:
    assert not SPECIAL & set(PROCESSOR.encode_user(text))


@given(st.integers(0, 0x10FFFF).map(chr))
def test_any_code_point_encodes(character: str) -> None:
    ids = PROCESSOR.encode_user(character)
    assert ids
    expected = ' \ufffd' if 0xD800 <= ord(character) < 0xE000 else f' {character}'
    text = PROCESSOR.decode_bytes(ids).decode()
    assert text.replace('&lt;', '<').replace('&gt;', '>').replace('&amp;', '&') == expected


def test_answers_keep_their_markers() -> None:
    ids = PROCESSOR.encode_answer('a<seg><p>mug</p><box>[0.1')
    assert {TOKENIZER.token_to_id(marker) for marker in ('<seg>', '<p>', '</p>', '<box>')} < set(
        ids
    )


def test_building_is_deterministic_and_survives_a_round_trip_through_json() -> None:
    again = build_tokenizer(CORPUS, vocab_size=300)
    assert again.to_str() == TOKENIZER.to_str()
    text = CORPUS[2]
    assert Tokenizer.from_str(again.to_str()).encode(text).ids == encode(text)


def test_token_bytes_cover_every_id() -> None:
    spelled = token_bytes(TOKENIZER)
    assert len(spelled) == len(set(spelled)) == PROCESSOR.vocab_size
    assert b'' not in spelled
