"""The automaton accepts exactly what Python's strict decoder accepts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from unifiedmllm_ros.runtime import utf8


def is_utf8(spelled: bytes) -> bool:
    try:
        spelled.decode('utf-8')
    except UnicodeDecodeError:
        return False
    return True


@given(st.one_of(st.binary(max_size=6), st.text(max_size=4).map(str.encode)))
def test_it_ends_between_characters_exactly_for_valid_bytes(spelled: bytes) -> None:
    assert (utf8.advance(utf8.BETWEEN, spelled) == utf8.BETWEEN) == is_utf8(spelled)


def test_the_edges_of_every_range() -> None:
    for first in range(0x80, 0x100):
        for second in (0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0):
            for tail in (b'', b'\x80', b'\x80\x80'):
                spelled = bytes([first, second]) + tail
                accepted = utf8.advance(utf8.BETWEEN, spelled) == utf8.BETWEEN
                assert accepted == is_utf8(spelled), spelled
