"""Width and height of an image file from its header, without decoding it (JPEG, PNG)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from unifiedmllm_ros.errors import ImageError

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels as stored; an orientation note of the camera is not applied.

    Raises ImageError where the file cannot be read, is cut off, or is neither JPEG nor PNG.
    """
    try:
        with open(path, 'rb') as file:
            size = _size(file)
    except (OSError, struct.error) as error:
        raise ImageError(f'{path}: is no whole image: {error}') from error
    if size is None or min(size) < 1:
        raise ImageError(f'{path}: is neither a JPEG nor a PNG image')
    return size


def _size(file: BinaryIO) -> tuple[int, int] | None:
    start = file.read(24)
    if start.startswith(b'\x89PNG\r\n\x1a\n'):
        width, height = struct.unpack('>II', start[16:24])
        return width, height
    return _jpeg_size(file) if start.startswith(b'\xff\xd8') else None


def _jpeg_size(file: BinaryIO) -> tuple[int, int] | None:
    """Walk the segments up to the frame header (ITU-T T.81, B.2.2)."""
    file.seek(2)
    while True:
        mark, kind = struct.unpack('BB', file.read(2))
        if mark != 0xFF:
            return None
        if kind == 0xFF:  # a fill byte before the marker
            file.seek(-1, 1)
            continue
        if kind in _START_OF_FRAME:
            height, width = struct.unpack('>3xHH', file.read(7))
            return width, height
        (length,) = struct.unpack('>H', file.read(2))
        file.seek(length - 2, 1)
