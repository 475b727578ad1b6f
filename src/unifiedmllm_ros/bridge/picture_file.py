"""What can be told of a JPEG, PNG or WebP file before it is decoded: its size, and whether it ends.

Decoders fill the missing part of a truncated JPEG with grey and say nothing, and allocate what a
header claims; both are checked here first.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from unifiedmllm_ros.errors import ImageError

_JPEG_START, _JPEG_END = b'\xff\xd8', b'\xff\xd9'
_PNG_START, _PNG_END = b'\x89PNG\r\n\x1a\n', b'IEND\xaeB`\x82'
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # ITU T.81 table B.1
_JPEG_BARE = frozenset(range(0xD0, 0xD9)) | {0x01}  # markers without a length
_PADDING = b'\x00\n\r'


def checked_picture_size(
    data: memoryview, form: str, check: Callable[[int, int], None]
) -> tuple[int, int]:
    """Return (width, height) of a complete picture file after `check(width, height)` let it pass.

    Args:
        data: the file.
        form: what the sender calls it, for messages.
        check: raises for sizes that are not wanted.

    Raises:
        ImageError: empty, of another kind, truncated, or without a size.
    """
    if not len(data):
        raise ImageError(f'compressed image {form!r} is empty; check the camera driver')
    start = bytes(data[:12])
    if start.startswith(_JPEG_START):
        size, complete = _jpeg_size(data), _ends_with(data, _JPEG_END)
    elif start.startswith(_PNG_START):
        size, complete = _png_size(data), _ends_with(data, _PNG_END)
    elif start[:4] == b'RIFF' and start[8:12] == b'WEBP':
        size, complete = _webp_size(data), len(data) >= 8 + struct.unpack('<I', start[4:8])[0]
    else:
        raise ImageError(
            f'compressed image {form!r} starts with {start[:4].hex()}: it is no JPEG, PNG or WebP'
        )
    if size is None or not complete:
        raise ImageError(
            f'compressed image {form!r} of {len(data)} bytes is truncated; '
            'check the network or use reliable delivery'
        )
    check(*size)
    return size


def _ends_with(data: memoryview, end: bytes) -> bool:
    # Some drivers pad the file to a multiple of their buffer size.
    return bytes(data[-4096:]).rstrip(_PADDING).endswith(end.rstrip(_PADDING))


def _jpeg_size(data: memoryview) -> tuple[int, int] | None:
    position = 2
    while position + 9 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _JPEG_BARE:
            position += 2
        elif marker in _JPEG_FRAMES:
            height, width = struct.unpack('>HH', data[position + 5 : position + 9])
            return width, height
        else:
            position += 2 + struct.unpack('>H', data[position + 2 : position + 4])[0]
    return None


def _png_size(data: memoryview) -> tuple[int, int] | None:
    return struct.unpack('>II', data[16:24]) if len(data) >= 24 else None


def _webp_size(data: memoryview) -> tuple[int, int] | None:
    """Read the canvas of a lossy, lossless or extended WebP (RFC 9649 section 2)."""
    if len(data) < 30:
        return None
    kind = bytes(data[12:16])
    if kind == b'VP8X':
        wide, high = bytes(data[24:27]), bytes(data[27:30])
        return int.from_bytes(wide, 'little') + 1, int.from_bytes(high, 'little') + 1
    if kind == b'VP8L':
        bits = struct.unpack('<I', data[21:25])[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack('<HH', data[26:30])
    return width & 0x3FFF, height & 0x3FFF
