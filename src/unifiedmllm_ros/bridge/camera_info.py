"""Intrinsics as sensor_msgs/CameraInfo."""

from __future__ import annotations

from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo


def camera_info_message(intrinsics: np.ndarray, width: int, height: int, header: Any) -> CameraInfo:
    """Make the CameraInfo of an undistorted camera.

    Args:
        intrinsics: the 3x3 matrix K, in pixels of an image of `width` x `height`.
        width: in pixels.
        height: in pixels.
        header: std_msgs/Header, the same as the image's.
    """
    projection = np.hstack([intrinsics, np.zeros((3, 1))])
    return CameraInfo(
        header=header,
        width=width,
        height=height,
        distortion_model='plumb_bob',
        d=[0.0] * 5,
        k=np.asarray(intrinsics, float).ravel().tolist(),
        r=np.eye(3).ravel().tolist(),
        p=projection.ravel().tolist(),
    )
