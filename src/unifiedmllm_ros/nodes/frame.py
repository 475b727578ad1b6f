"""A camera image as it arrived, and the depth that belongs to it."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unifiedmllm_ros.bridge.detections_3d import Pinhole
from unifiedmllm_ros.bridge.image import (
    ImageLimits,
    compressed_to_rgb,
    depth_to_metres,
    image_to_rgb,
)
from unifiedmllm_ros.errors import ImageError, UnifiedMLLMError

NANOSECONDS = 1_000_000_000
_DEPTHS_KEPT = 10


class NoFrameError(ImageError):
    """A question about the newest frame where none has arrived."""

    code = 'no_image'


class NotActiveError(UnifiedMLLMError):
    """A question to a node that is not active."""

    code = 'not_active'


class BusyError(UnifiedMLLMError):
    """A question too many."""

    code = 'busy'


@dataclass(frozen=True, eq=False)
class Frame:
    """A sensor_msgs Image or CompressedImage and when it came, in seconds of time.monotonic()."""

    message: Any
    arrived: float = field(default_factory=time.monotonic)

    @property
    def header(self) -> Any:
        """The std_msgs/Header of the image."""
        return self.message.header

    @property
    def stamp_ns(self) -> int:
        """Time of the image in nanoseconds."""
        return stamp_ns(self.message)

    def rgb(self, limits: ImageLimits) -> np.ndarray:
        """Return the pixels, (H, W, 3) uint8; raises `ImageError`."""
        if hasattr(self.message, 'encoding'):
            return image_to_rgb(self.message, limits)
        return compressed_to_rgb(self.message, limits)


def stamp_ns(message: Any) -> int:
    """Return the stamp of a message with a header, in nanoseconds."""
    stamp = message.header.stamp
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


class DepthMemory:
    """The last depth images and the camera's intrinsics.

    Written by the executor's thread, read by the worker's.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depths: deque[Any] = deque(maxlen=_DEPTHS_KEPT)
        self._camera_info: Any = None

    def add_depth(self, message: Any) -> None:
        """Remember a depth image."""
        with self._lock:
            self._depths.append(message)

    def add_camera_info(self, message: Any) -> None:
        """Remember the newest intrinsics."""
        self._camera_info = message

    def clear(self) -> None:
        """Forget all depth images, for example when time has been set back."""
        with self._lock:
            self._depths.clear()

    def at(self, time_ns: int, tolerance_s: float) -> tuple[np.ndarray, Pinhole] | None:
        """Return depth in metres and intrinsics at a time, None without either.

        Raises:
            ImageError: the depth image or the intrinsics cannot be used.
        """
        with self._lock:
            depths = tuple(self._depths)
        if self._camera_info is None or not depths:
            return None
        nearest = min(depths, key=lambda message: abs(stamp_ns(message) - time_ns))
        if abs(stamp_ns(nearest) - time_ns) > tolerance_s * NANOSECONDS:
            return None
        return depth_to_metres(nearest), Pinhole.from_camera_info(self._camera_info)
