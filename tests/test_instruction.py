"""Instructions: what is dropped, what is kept, what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unifiedmllm_ros.errors import InstructionError
from unifiedmllm_ros.instruction import MAX_CHARACTERS, clean_instruction
from unifiedmllm_ros.representation import MARKERS


@pytest.mark.parametrize(
    ('text', 'clean'),
    [
        ('  find the mug \n', 'find the mug'),
        ('find\tthe\r\nmug', 'find the mug'),
        ('find\x00 the\x07 m\x1b[31mug\x7f\x9d', 'find the m[31mug'),
        ('find \u202egum\u202c \u2066the\u2069 mug\ufeff', 'find gum the mug'),
        ('cafe\u0301', 'caf\u00e9'),
        ('\U0001f469\u200d\U0001f680 find <seg>', '\U0001f469\u200d\U0001f680 find <seg>'),
        ('a & b < c', 'a & b < c'),
        ('红色的杯子在哪里?', '红色的杯子在哪里?'),
        (''.join(MARKERS), ''.join(MARKERS)),
        ('x' * MAX_CHARACTERS, 'x' * MAX_CHARACTERS),
    ],
)
def test_text_is_cleaned_and_otherwise_kept(text: str, clean: str) -> None:
    assert clean_instruction(text) == clean


@pytest.mark.parametrize(
    ('text', 'named'),
    [
        ('', 'empty'),
        (' \n\t', 'empty'),
        ('\x00\x1b\u200b', 'empty'),
        ('a' * 100_000, '100000 characters, at most 2000'),
        ('<seg>' * 20_000, 'at most 2000'),
        ('\x00' * 2001, 'at most 2000'),
        ('find \ud800 it', 'U\\+D800 at character 5'),
        ('find \ufffd it', 'U\\+FFFD at character 5'),
        (b'find \xff'.decode('utf-8', 'surrogateescape'), 'UTF-8'),
        (b'find \xff'.decode('utf-8', 'replace'), 'UTF-8'),
    ],
)
def test_what_is_no_instruction_is_refused_with_the_reason(text: str, named: str) -> None:
    with pytest.raises(InstructionError, match=named):
        clean_instruction(text)


@given(st.text(st.characters(), max_size=200))
def test_cleaning_is_total_and_its_outcome_is_clean(text: str) -> None:
    try:
        clean = clean_instruction(text)
    except InstructionError:
        return
    assert clean_instruction(clean) == clean
    assert clean.isprintable() or any(ord(c) > 0x7F for c in clean)
    clean.encode('utf-8')
