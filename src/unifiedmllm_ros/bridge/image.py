"""sensor_msgs/Image and CompressedImage to RGB arrays, and arrays to messages.

Everything a camera driver can get wrong is checked here, and said in one `ImageError` that names
the value and the remedy: encoding, size, row step, data length, byte order, broken files.
Messages are read by their attributes only, so rclpy's and rosbags' message classes both serve.
"""

from __future__ import annotations

import array
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

from unifiedmllm_ros.bridge.encodings import ENCODINGS, Encoding
from unifiedmllm_ros.bridge.picture_file import checked_picture_size
from unifiedmllm_ros.errors import ImageError

_MESSAGE_DTYPES = {
    'rgb8': np.uint8,
    'bgr8': np.uint8,
    'mono8': np.uint8,
    'mono16': np.uint16,
    '16UC1': np.uint16,
    '32FC1': np.float32,
}
_AS_SENT = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


@dataclass(frozen=True)
class ImageLimits:
    """Sizes that are accepted: shorter side in pixels, and pixels altogether."""

    min_side: int = 2
    max_pixels: int = 33_177_600  # 7680 x 4320

    def check(self, width: int, height: int) -> None:
        """Raise `ImageError` for an image of `width` x `height` outside the limits."""
        if width <= 0 or height <= 0:
            raise ImageError(
                f'image is {width}x{height}: it has no pixels; check the camera driver'
            )
        if min(width, height) < self.min_side:
            raise ImageError(
                f'image is {width}x{height}: the shorter side needs {self.min_side} pixels or more'
            )
        if width * height > self.max_pixels:
            raise ImageError(
                f'image is {width}x{height}, {width * height / 1e6:.1f} megapixels: the limit is '
                f'{self.max_pixels / 1e6:.1f}; send a smaller image or raise max_image_pixels'
            )


DEFAULT_LIMITS = ImageLimits()


def image_to_rgb(message: Any, limits: ImageLimits = DEFAULT_LIMITS) -> np.ndarray:
    """Convert a sensor_msgs/Image to (H, W, 3) uint8 RGB.

    Rows may be padded (`step`), 16-bit and float values may be of either byte order. 16-bit
    colour and mono16 keep their high byte; 16UC1 and 32FC1 have no natural range and are
    stretched from their smallest to their largest finite value. The result may be a view of the
    message's memory: do not write to it.

    Raises:
        ImageError: unknown encoding, size outside `limits`, step or data length that do not fit.
    """
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        raise ImageError(
            f'image encoding {message.encoding!r} is not known; send one of '
            f'{", ".join(sorted(ENCODINGS))}'
        )
    limits.check(message.width, message.height)
    mosaic = encoding.channels == 1
    if encoding.even and (message.width % 2 or (mosaic and message.height % 2)):
        raise ImageError(
            f'image of encoding {message.encoding} is {message.width}x{message.height}: '
            'its sides must be even'
        )
    return encoding.to_rgb(_pixels(message, encoding))


def compressed_to_rgb(message: Any, limits: ImageLimits = DEFAULT_LIMITS) -> np.ndarray:
    """Decode a sensor_msgs/CompressedImage (JPEG, PNG or WebP) to (H, W, 3) uint8 RGB.

    The size is read from the file's header and checked before anything is decoded. EXIF rotation
    is ignored, as coordinates refer to the image as the camera sent it.

    Raises:
        ImageError: not a picture file, truncated or broken, size outside `limits`.
    """
    return _decoded(memoryview(message.data), message.format, limits)


def depth_to_metres(message: Any, limits: ImageLimits = DEFAULT_LIMITS) -> np.ndarray:
    """Convert a depth image (REP 118) to (H, W) float32 metres, NaN where nothing was measured.

    16UC1 and mono16 are millimetres with 0 for nothing, 32FC1 is metres.

    Raises:
        ImageError: another encoding, or a message that `image_to_rgb` would refuse.
    """
    if message.encoding not in ('16UC1', 'mono16', '32FC1'):
        raise ImageError(
            f'depth encoding {message.encoding!r} is not known; send 16UC1 (mm) or 32FC1 (m)'
        )
    limits.check(message.width, message.height)
    values = _pixels(message, ENCODINGS[message.encoding])
    return _metres(values)


def array_to_image(pixels: np.ndarray, encoding: str, header: Any) -> Any:
    """Pack (H, W) or (H, W, 3) pixels as a sensor_msgs/Image with unpadded rows.

    Args:
        pixels: uint8, uint16 or float32, as `encoding` says.
        encoding: rgb8, bgr8, mono8, mono16, 16UC1 or 32FC1.
        header: std_msgs/Header, copied by reference.
    """
    from sensor_msgs.msg import Image

    expected = _MESSAGE_DTYPES.get(encoding)
    if expected is None or pixels.dtype != expected:
        raise ImageError(f'an array of {pixels.dtype} cannot be sent as encoding {encoding!r}')
    little = np.ascontiguousarray(pixels).astype(pixels.dtype.newbyteorder('<'), copy=False)
    message = Image(header=header, encoding=encoding, is_bigendian=0)
    message.height, message.width = pixels.shape[:2]
    message.step = little.strides[0]
    message.data = _message_bytes(little.data.cast('B'))
    return message


def rgb_to_jpeg(rgb: np.ndarray, header: Any, quality: int = 85) -> Any:
    """Pack (H, W, 3) uint8 RGB as a JPEG sensor_msgs/CompressedImage; `quality` is 1 to 100."""
    from sensor_msgs.msg import CompressedImage

    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    message = CompressedImage(header=header, format='jpeg')
    message.data = _message_bytes(data.data.cast('B'))
    return message


def _message_bytes(data: memoryview) -> array.array[int]:
    # rclpy takes an array.array as it is, but walks through anything else byte by byte.
    packed = array.array('B')
    packed.frombytes(data)
    return packed


def _pixels(message: Any, encoding: Encoding) -> np.ndarray:
    """Cut the pixels out of the padded rows: (H, W) or (H, W, channels) in native byte order."""
    row_bytes = message.width * encoding.pixel_bytes
    _check_step(message, row_bytes)
    data = memoryview(message.data).cast('B')
    if len(data) != message.step * message.height:
        raise ImageError(
            f'image data is {len(data)} bytes long, but step {message.step} x height '
            f'{message.height} is {message.step * message.height}; check the camera driver'
        )
    rows = np.frombuffer(data, np.uint8).reshape(message.height, message.step)[:, :row_bytes]
    order: Literal['<', '>'] = '>' if message.is_bigendian else '<'
    dtype = encoding.dtype.newbyteorder(order)
    if encoding.dtype.itemsize > 1 and message.step % encoding.dtype.itemsize:
        rows = np.ascontiguousarray(rows)
    values = rows.view(dtype).astype(encoding.dtype, copy=False)
    if encoding.channels == 1:
        return values
    return values.reshape(message.height, message.width, encoding.channels)


def _check_step(message: Any, row_bytes: int) -> None:
    if message.step < row_bytes:
        raise ImageError(
            f'image step is {message.step}, but a row of {message.width} pixels '
            f'{message.encoding} has {row_bytes} bytes; check the camera driver'
        )


def _decoded(data: memoryview, form: str, limits: ImageLimits) -> np.ndarray:
    checked_picture_size(data, form, limits.check)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _AS_SENT)
    except cv2.error as error:
        raise ImageError(f'compressed image {form!r} cannot be decoded: {error}') from error
    if pixels is None:
        raise ImageError(
            f'compressed image {form!r} of {len(data)} bytes cannot be decoded: its data are broken'
        )
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)


def _metres(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.float32:
        return np.where(np.isfinite(values) & (values > 0), values, np.nan).astype(np.float32)
    metres = values.astype(np.float32) / 1000.0
    metres[values == 0] = np.nan
    return metres
