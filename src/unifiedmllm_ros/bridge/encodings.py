"""How the pixels of each `sensor_msgs/Image` encoding lie in memory, and how they become RGB.

Names are those of sensor_msgs/image_encodings.hpp. Knows nothing of messages: `image.py` cuts
the rows out of a message and hands them to an `Encoding` as an array (H, W, channels).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

Pixels = np.ndarray
_UINT8 = np.dtype(np.uint8)
_UINT16 = np.dtype(np.uint16)
_FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True)
class Encoding:
    """Memory layout of one encoding.

    `dtype` and `channels` describe a pixel; `to_rgb` turns (H, W, channels) of `dtype` into
    (H, W, 3) uint8 RGB; `even` says that width (and for Bayer height) must be even.
    """

    dtype: np.dtype
    channels: int
    to_rgb: Callable[[Pixels], Pixels]
    even: bool = False

    @property
    def pixel_bytes(self) -> int:
        return self.dtype.itemsize * self.channels


def _same(pixels: Pixels) -> Pixels:
    return pixels


def _converted(code: int) -> Callable[[Pixels], Pixels]:
    return lambda pixels: cv2.cvtColor(pixels, code)


def _high_byte(pixels: Pixels) -> Pixels:
    return (pixels >> 8).astype(np.uint8)


def _high_byte_then(code: int) -> Callable[[Pixels], Pixels]:
    return lambda pixels: cv2.cvtColor(_high_byte(pixels), code)


def _stretched(pixels: Pixels) -> Pixels:
    """Scale values without a natural range (thermal, depth): finite min..max to 0..255."""
    values = pixels.astype(np.float32)
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros((*values.shape[:2], 3), np.uint8)
    low, high = float(values[finite].min()), float(values[finite].max())
    scale = 255.0 / (high - low) if high > low else 0.0
    grey = np.where(finite, (values - low) * scale, 0.0).round().astype(np.uint8)
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)


def _plain() -> dict[str, Encoding]:
    codes = {'bgr': cv2.COLOR_BGR2RGB, 'rgba': cv2.COLOR_RGBA2RGB, 'bgra': cv2.COLOR_BGRA2RGB}
    table = {
        'rgb8': Encoding(_UINT8, 3, _same),
        'rgb16': Encoding(_UINT16, 3, _high_byte),
        'mono8': Encoding(_UINT8, 1, _converted(cv2.COLOR_GRAY2RGB)),
        'mono16': Encoding(_UINT16, 1, _high_byte_then(cv2.COLOR_GRAY2RGB)),
        '16UC1': Encoding(_UINT16, 1, _stretched),
        '32FC1': Encoding(_FLOAT32, 1, _stretched),
    }
    for name, code in codes.items():
        table[f'{name}8'] = Encoding(_UINT8, len(name), _converted(code))
        table[f'{name}16'] = Encoding(_UINT16, len(name), _high_byte_then(code))
    # OpenCV's own names, in OpenCV's own channel order.
    return table | {'8UC1': table['mono8'], '8UC3': table['bgr8'], '8UC4': table['bgra8']}


def _bayer() -> dict[str, Encoding]:
    table = {}
    for pattern in ('rggb', 'bggr', 'gbrg', 'grbg'):
        code = getattr(cv2, f'COLOR_Bayer{pattern.upper()}2RGB')
        table[f'bayer_{pattern}8'] = Encoding(_UINT8, 1, _converted(code), even=True)
        table[f'bayer_{pattern}16'] = Encoding(_UINT16, 1, _high_byte_then(code), even=True)
    return table


def _yuv() -> dict[str, Encoding]:
    uyvy = Encoding(_UINT8, 2, _converted(cv2.COLOR_YUV2RGB_UYVY), even=True)
    yuyv = Encoding(_UINT8, 2, _converted(cv2.COLOR_YUV2RGB_YUY2), even=True)
    return {'yuv422': uyvy, 'uyvy': uyvy, 'yuv422_yuy2': yuyv, 'yuyv': yuyv}


ENCODINGS: dict[str, Encoding] = _plain() | _bayer() | _yuv()
