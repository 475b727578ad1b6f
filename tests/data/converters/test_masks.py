"""Masks of DAVIS: palette images as published, grey ones, damaged ones."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from unifiedmllm_ros.data.converters.davis import read_labels
from unifiedmllm_ros.data.converters.rows import Rejected

LABELS = np.arange(256, dtype=np.uint8).reshape(8, 32)


def _voc_colour(label: int) -> tuple[int, int, int]:
    """Red, green, blue as the VOC development kit makes them (VOClabelcolormap)."""
    colour = [0, 0, 0]
    for step in range(8):
        for channel in range(3):
            colour[channel] |= ((label >> channel) & 1) << (7 - step)
        label >>= 3
    return colour[0], colour[1], colour[2]


def _palette_png(path: Path, labels: NDArray[np.uint8]) -> Path:
    """A PNG of colour type 3, as the set has them and OpenCV cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', checksum)

    height, width = labels.shape
    palette = b''.join(bytes(_voc_colour(n)) for n in range(256))
    rows = b''.join(b'\0' + row.tobytes() for row in labels)
    path.write_bytes(
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 3, 0, 0, 0))
        + chunk(b'PLTE', palette)
        + chunk(b'IDAT', zlib.compress(rows))
        + chunk(b'IEND', b'')
    )
    return path


def test_palette(tmp_path: Path) -> None:
    assert [_voc_colour(n) for n in (1, 2, 3, 8)] == [
        (128, 0, 0),
        (0, 128, 0),
        (128, 128, 0),
        (64, 0, 0),
    ]
    assert np.array_equal(read_labels(_palette_png(tmp_path / 'a.png', LABELS)), LABELS)


def test_grey(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / 'a.png'), LABELS)
    assert np.array_equal(read_labels(tmp_path / 'a.png'), LABELS)


def test_damaged(tmp_path: Path) -> None:
    (tmp_path / 'a.png').write_bytes(b'\x89PNG')
    with pytest.raises(Rejected, match='cannot be read'):
        read_labels(tmp_path / 'a.png')
