"""Near-duplicates of dialogues and of pictures.

Two dialogues are near-duplicates where the sets of their word triples (questions and answers,
numbers left out, lower case) have a Jaccard similarity of at least 0.8, and they are about one
picture or are both about none (no box in them): the same words about another picture teach
something else. Candidates are found by MinHash with banding (Broder, 1997; Leskovec et al., Mining
of Massive Datasets, ch. 3) and then compared exactly, so that nothing else is dropped.

Two pictures are near-duplicates where their difference hashes (64 bits, Krawetz, 2013) differ in
at most 3 bits. They go into the same split.
"""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from unifiedmllm_ros.errors import ImageError

SIMILAR = 0.8
BANDS, ROWS = 24, 4
BITS = 3
_PRIME = (1 << 31) - 1
_WORD = re.compile(r'<[^>]*>|[^\W\d_]+')


def triples(text: str) -> frozenset[str]:
    """The word triples of a text, markers being words; of a shorter text, the text itself."""
    words = _WORD.findall(text.lower())
    if len(words) < 3:
        return frozenset({' '.join(words)})
    return frozenset(' '.join(words[n : n + 3]) for n in range(len(words) - 2))


def similarity(a: frozenset[str], b: frozenset[str]) -> float:
    """Jaccard similarity of two sets, 1 for two empty ones."""
    return len(a & b) / len(a | b) if a | b else 1.0


class Seen:
    """Remembers texts by group; `add` says whether a text is new to its group."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._factors = rng.integers(1, _PRIME, (BANDS * ROWS, 1), dtype=np.uint64)
        self._offsets = rng.integers(0, _PRIME, (BANDS * ROWS, 1), dtype=np.uint64)
        self._buckets: dict[Hashable, list[frozenset[str]]] = defaultdict(list)

    def add(self, text: str, group: Hashable) -> bool:
        """Remember a text; False, and not remembered, where a near-duplicate is there already."""
        words = triples(text)
        keys = [(group, band, key) for band, key in enumerate(self._bands(words))]
        for key in keys:
            if any(similarity(words, other) >= SIMILAR for other in self._buckets.get(key, ())):
                return False
        for key in keys:
            self._buckets[key].append(words)
        return True

    def _bands(self, words: frozenset[str]) -> list[bytes]:
        values = np.array([zlib.crc32(word.encode()) % _PRIME for word in words], np.uint64)
        least = ((self._factors * values + self._offsets) % np.uint64(_PRIME)).min(axis=1)
        return [band.tobytes() for band in least.reshape(BANDS, ROWS)]


def difference_hash(path: Path) -> int:
    """64 bits: whether brightness rises from each of 9x8 cells to the next one in its row.

    Raises ImageError for a file that is no picture.
    """
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path.is_file() else None
    if image is None:
        raise ImageError(f'{path} cannot be read as an image: replace or remove it')
    small = cv2.resize(image, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    bits = (small[:, 1:] > small[:, :-1]).flatten()
    return int(''.join('1' if bit else '0' for bit in bits), 2)


def groups(hashes: Sequence[int]) -> list[int]:
    """For each picture the number of the first one that it is, by steps, a near-duplicate of."""
    leader = list(range(len(hashes)))

    def find(n: int) -> int:
        while leader[n] != n:
            leader[n] = leader[leader[n]]
            n = leader[n]
        return n

    # Hashes that differ in 3 bits agree in at least one quarter.
    quarters: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, value in enumerate(hashes):
        for quarter in range(4):
            quarters[quarter, (value >> 16 * quarter) & 0xFFFF].append(number)
    for members in quarters.values():
        for a, b in _pairs(members):
            if (hashes[a] ^ hashes[b]).bit_count() <= BITS:
                low, high = sorted((find(a), find(b)))
                leader[high] = low
    return [find(number) for number in range(len(hashes))]


def _pairs(members: list[int]) -> Iterable[tuple[int, int]]:
    """All pairs of a small bucket; neighbours of a large one, flat pictures mostly."""
    if len(members) > 200:
        return pairwise(members)
    return ((a, b) for n, a in enumerate(members) for b in members[n + 1 :])
