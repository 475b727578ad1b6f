"""Near-duplicates of texts and pictures: what is dropped is really alike, and the rest is kept."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unifiedmllm_ros.data.near_duplicates import (
    SIMILAR,
    Seen,
    difference_hash,
    groups,
    similarity,
    triples,
)
from unifiedmllm_ros.errors import ImageError

LONG = 'find the dog and then take the blue car away because i do not like it there at all thanks'


def test_the_same_words_with_other_numbers_are_a_duplicate() -> None:
    seen = Seen()
    assert seen.add(f'{LONG} <box>[0.100, 0.200, 0.300, 0.400]</box>', 'a')
    assert not seen.add(f'{LONG.upper()}! <box>[0.500, 0.200, 0.700, 0.400]</box>', 'a')
    assert seen.add(LONG, 'b')
    assert seen.add('an entirely different thing is said here about the same picture', 'a')


@given(st.lists(st.lists(st.sampled_from('abcdefg'), min_size=1, max_size=12), max_size=12))
@settings(max_examples=60, deadline=None)
def test_only_what_is_alike_is_dropped(texts: list[list[str]]) -> None:
    seen, kept = Seen(), []
    for words in texts:
        text = ' '.join(words)
        if seen.add(text, 0):
            kept.append(text)
        else:
            assert any(similarity(triples(text), triples(other)) >= SIMILAR for other in kept)
    # Exact copies never stay.
    assert not any(triples(a) == triples(b) for a, b in combinations(kept, 2))


def test_similarity_of_nothing_and_of_short_texts() -> None:
    assert similarity(frozenset(), frozenset()) == 1.0
    assert triples('find it') == frozenset({'find it'})


def test_a_recompressed_picture_is_the_same_and_a_mirrored_one_is_not(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (8, 9, 3), dtype=np.uint8)
    large = cv2.resize(pixels, (180, 160), interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(tmp_path / 'a.png'), large)
    cv2.imwrite(str(tmp_path / 'b.jpg'), large, [cv2.IMWRITE_JPEG_QUALITY, 60])
    cv2.imwrite(str(tmp_path / 'c.png'), large[:, ::-1])
    hashes = [difference_hash(tmp_path / name) for name in ('a.png', 'b.jpg', 'c.png')]
    assert groups(hashes) == [0, 0, 2]
    (tmp_path / 'd.png').write_bytes(b'no picture')
    for name in ('d.png', 'none.png'):
        with pytest.raises(ImageError, match=name):
            difference_hash(tmp_path / name)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=8), st.integers(0, 63))
@settings(max_examples=60, deadline=None)
def test_hashes_within_three_bits_share_a_group(values: list[int], bit: int) -> None:
    near = [value ^ (1 << bit) for value in values]
    found = groups(values + near)
    assert all(found[n] == found[n + len(values)] for n in range(len(values)))
