"""Messages of every encoding, made independently of the code under test."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np


def raw_message(
    pixels: np.ndarray, encoding: str, padding: int = 0, big_endian: bool = False
) -> SimpleNamespace:
    """Lay out (H, W) or (H, W, C) pixels as sensor_msgs/Image does, each row padded with 0xAB."""
    dtype = pixels.dtype.newbyteorder('>' if big_endian else '<')
    height, width = pixels.shape[:2]
    rows = [pixels[y].astype(dtype).tobytes() + b'\xab' * padding for y in range(height)]
    return SimpleNamespace(
        encoding=encoding,
        width=width,
        height=height,
        step=len(rows[0]),
        is_bigendian=int(big_endian),
        data=b''.join(rows),
    )


def compressed_message(data: bytes, form: str = 'jpeg') -> SimpleNamespace:
    return SimpleNamespace(format=form, data=data)


def mosaic(rgb: np.ndarray, pattern: str) -> np.ndarray:
    """Sample (H, W, 3) RGB through the 2x2 Bayer `pattern`, as 'rggb' row by row."""
    planes = ['rgb'.index(letter) for letter in pattern]
    raw = np.empty(rgb.shape[:2], rgb.dtype)
    for index, plane in enumerate(planes):
        y, x = divmod(index, 2)
        raw[y::2, x::2] = rgb[y::2, x::2, plane]
    return raw
