"""Image messages in every encoding, padding and byte order; and all a camera gets wrong."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bridge.image_messages import compressed_message, mosaic, raw_message
from unifiedmllm_ros.bridge.encodings import ENCODINGS
from unifiedmllm_ros.bridge.image import (
    ImageLimits,
    compressed_to_rgb,
    depth_to_metres,
    image_to_rgb,
)
from unifiedmllm_ros.errors import ImageError

ANY_SIZE = ImageLimits(min_side=1)


def random_rgb(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth_rgb(width: int = 64, height: int = 48) -> np.ndarray:
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.dstack([across, down, (across + down) / 2]).astype(np.uint8)


def encoded(rgb: np.ndarray, encoding: str) -> np.ndarray:
    """RGB as the pixels of a colour encoding, in the order its name spells."""
    letters, bits = encoding.rstrip('0123456789'), encoding[-1]
    alpha = np.full(rgb.shape[:2], 77, np.uint8)
    planes = {'r': rgb[..., 0], 'g': rgb[..., 1], 'b': rgb[..., 2], 'a': alpha}
    pixels = np.dstack([planes[letter] for letter in letters])
    return pixels.astype(np.uint16) * 257 if bits == '6' else pixels


COLOUR = ['rgb8', 'bgr8', 'rgba8', 'bgra8', 'rgb16', 'bgr16', 'rgba16', 'bgra16']


@settings(max_examples=60, deadline=None)
@given(
    encoding=st.sampled_from(COLOUR),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    padding=st.integers(0, 9),
    big_endian=st.booleans(),
    seed=st.integers(0, 99),
)
def test_colour_round_trip(
    encoding: str, width: int, height: int, padding: int, big_endian: bool, seed: int
) -> None:
    rgb = random_rgb(width, height, seed)
    message = raw_message(encoded(rgb, encoding), encoding, padding, big_endian)
    assert np.array_equal(image_to_rgb(message, ANY_SIZE), rgb)


@settings(max_examples=40, deadline=None)
@given(
    encoding=st.sampled_from(['mono8', 'mono16', '8UC1']),
    width=st.integers(1, 40),
    padding=st.integers(0, 5),
    big_endian=st.booleans(),
)
def test_grey_round_trip(encoding: str, width: int, padding: int, big_endian: bool) -> None:
    grey = random_rgb(width, 20)[..., 0]
    wide = grey.astype(np.uint16) * 256 + 255 if encoding == 'mono16' else grey
    rgb = image_to_rgb(raw_message(wide, encoding, padding, big_endian), ANY_SIZE)
    assert rgb.shape == (20, width, 3)
    assert all(np.array_equal(rgb[..., channel], grey) for channel in range(3))


@pytest.mark.parametrize('big_endian', [False, True])
@pytest.mark.parametrize(('encoding', 'dtype'), [('16UC1', np.uint16), ('32FC1', np.float32)])
def test_values_without_a_range_are_stretched(encoding: str, dtype: type, big_endian: bool) -> None:
    values = np.tile(np.linspace(1000, 3000, 32).astype(dtype), (16, 1))
    rgb = image_to_rgb(raw_message(values, encoding, 3, big_endian))
    assert rgb[0, 0].tolist() == [0, 0, 0]
    assert rgb[0, -1].tolist() == [255, 255, 255]
    assert abs(int(rgb[0, 16, 0]) - 131) <= 2


def test_float_holes_are_black_and_do_not_spoil_the_rest() -> None:
    values = np.full((16, 16), np.nan, np.float32)
    assert image_to_rgb(raw_message(values, '32FC1')).max() == 0
    values[0, :2] = [1.0, 2.0]
    values[1, 0] = np.inf
    rgb = image_to_rgb(raw_message(values, '32FC1'))
    assert rgb[0, :2, 0].tolist() == [0, 255]
    assert rgb[1, 0, 0] == 0


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
@pytest.mark.parametrize('bits', [8, 16])
def test_bayer_gives_the_colours_back(pattern: str, bits: int) -> None:
    rgb = smooth_rgb()
    raw = mosaic(rgb, pattern)
    wide = raw if bits == 8 else raw.astype(np.uint16) * 257
    result = image_to_rgb(raw_message(wide, f'bayer_{pattern}{bits}', padding=4))
    error = np.abs(result[4:-4, 4:-4].astype(int) - rgb[4:-4, 4:-4])
    assert error.max() <= 12


@pytest.mark.parametrize(
    ('encoding', 'luma'), [('yuv422', 1), ('uyvy', 1), ('yuv422_yuy2', 0), ('yuyv', 0)]
)
def test_yuv_gives_the_colours_back(encoding: str, luma: int) -> None:
    red = np.full((16, 16, 3), (200, 40, 30), np.uint8)
    r, g, b = 200, 40, 30  # to ITU-R BT.601 studio range:
    y = round(16 + 0.257 * r + 0.504 * g + 0.098 * b)
    u = round(128 - 0.148 * r - 0.291 * g + 0.439 * b)
    v = round(128 + 0.439 * r - 0.368 * g - 0.071 * b)
    pixels = np.empty((16, 16, 2), np.uint8)
    pixels[..., luma] = y
    pixels[:, 0::2, 1 - luma], pixels[:, 1::2, 1 - luma] = u, v
    result = image_to_rgb(raw_message(pixels, encoding, padding=6))
    assert np.abs(result.astype(int) - red).max() <= 4


def test_unpadded_rgb_is_not_copied() -> None:
    message = raw_message(random_rgb(64, 48), 'rgb8')
    result = image_to_rgb(message)
    assert np.shares_memory(result, np.frombuffer(message.data, np.uint8))


@pytest.mark.parametrize('form', ['jpeg', 'png', 'webp'])
def test_compressed_files(form: str) -> None:
    rgb = smooth_rgb(96, 64)
    data = cv2.imencode(f'.{form}', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()
    result = compressed_to_rgb(compressed_message(data, f'rgb8; {form} compressed bgr8'))
    assert result.shape == rgb.shape
    assert np.abs(result.astype(int) - rgb).mean() < 4


def test_depth_is_metres_with_holes() -> None:
    millimetres = np.array([[0, 1500]] * 16, np.uint16).repeat(8, axis=1)
    for big_endian in (False, True):
        depth = depth_to_metres(raw_message(millimetres, '16UC1', 2, big_endian))
        assert np.isnan(depth[0, 0])
        assert depth[0, -1] == np.float32(1.5)
    metres = np.full((16, 16), 1.5, '>f4')
    metres[0, :2] = [np.inf, -1.0]
    depth = depth_to_metres(raw_message(metres.astype(np.float32), '32FC1', 5, True))
    assert np.isnan(depth[0, :2]).all()
    assert depth[1, 1] == np.float32(1.5)


BROKEN = {
    'unknown encoding': ({'encoding': 'rgb9'}, "'rgb9' is not known"),
    'empty encoding': ({'encoding': ''}, 'is not known'),
    'zero width': ({'width': 0}, '0x32'),
    'zero height': ({'height': 0}, '32x0'),
    'one pixel': ({'width': 1, 'height': 1, 'step': 3, 'data': b'abc'}, '1x1'),
    'step too small': ({'step': 95}, 'step is 95'),
    'step zero': ({'step': 0}, 'step is 0'),
    'data too short': ({'data': bytes(3071)}, '3071 bytes'),
    'data too long': ({'data': bytes(3073)}, '3073 bytes'),
    'no data': ({'data': b''}, '0 bytes'),
    'too large': ({'width': 8000, 'height': 6000}, '48.0 megapixels'),
}


@pytest.mark.parametrize(('change', 'message'), BROKEN.values(), ids=BROKEN)
def test_broken_raw_image_names_the_value(change: dict, message: str) -> None:
    image = raw_message(random_rgb(32, 32), 'rgb8')
    vars(image).update(change)
    with pytest.raises(ImageError, match=message):
        image_to_rgb(image)


@pytest.mark.parametrize('encoding', ['yuv422', 'bayer_rggb8'])
def test_odd_sides_are_named_where_they_cannot_be(encoding: str) -> None:
    channels = ENCODINGS[encoding].channels
    pixels = np.zeros((32, 33, channels) if channels > 1 else (32, 33), np.uint8)
    with pytest.raises(ImageError, match='33x32: its sides must be even'):
        image_to_rgb(raw_message(pixels, encoding))


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0.0, 0.9999), form=st.sampled_from(['jpg', 'png', 'webp']))
def test_every_truncated_file_is_refused(share: float, form: str) -> None:
    data = cv2.imencode(f'.{form}', random_rgb(64, 48))[1].tobytes()
    with pytest.raises(ImageError, match=r'truncated|empty|starts with'):
        compressed_to_rgb(compressed_message(data[: int(len(data) * share)], form))


@settings(max_examples=100, deadline=None)
@given(
    data=st.binary(max_size=200), start=st.sampled_from([b'', b'\xff\xd8', b'\x89PNG\r\n\x1a\n'])
)
def test_any_bytes_give_an_image_or_an_image_error(data: bytes, start: bytes) -> None:
    with pytest.raises(ImageError):
        compressed_to_rgb(compressed_message(start + data))


@pytest.mark.parametrize('form', ['jpg', 'png'])
def test_a_huge_file_is_refused_before_it_is_decoded(form: str) -> None:
    data = cv2.imencode(f'.{form}', np.zeros((6000, 8000), np.uint8))[1].tobytes()
    with pytest.raises(ImageError, match=r'8000x6000, 48\.0 megapixels'):
        compressed_to_rgb(compressed_message(data))


def test_exif_rotation_is_ignored() -> None:
    data = cv2.imencode('.jpg', smooth_rgb(64, 32))[1].tobytes()
    tag = b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0'
    exif = b'\xff\xe1' + (len(tag) + 2).to_bytes(2, 'big') + tag
    assert compressed_to_rgb(compressed_message(data[:2] + exif + data[2:])).shape == (32, 64, 3)


def test_padding_after_the_end_of_a_file_is_allowed() -> None:
    data = cv2.imencode('.jpg', smooth_rgb())[1].tobytes()
    assert compressed_to_rgb(compressed_message(data + bytes(512))).shape == (48, 64, 3)
