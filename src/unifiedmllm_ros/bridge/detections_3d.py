"""Boxes in an image and a depth image registered to it, as boxes in space.

A box in space is axis-parallel in the camera's optical frame (REP 103: x right, y down, z forward):
wide and high as the object is seen at its median depth, as deep as its measured depths spread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from vision_msgs.msg import Detection3D, Detection3DArray

from unifiedmllm_ros.errors import ImageError

_SPREAD = (5.0, 95.0)  # percentiles of depth; beyond them lie flying pixels at the edges
_FEWEST_PIXELS = 8


@dataclass(frozen=True)
class Pinhole:
    """Focal lengths and centre in pixels of an image of `width` x `height`."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    @classmethod
    def from_camera_info(cls, info: Any) -> Pinhole:
        """Read a sensor_msgs/CameraInfo of a rectified image.

        Raises:
            ImageError: the camera is not calibrated, or has no size.
        """
        fx, _, cx, _, fy, cy = (float(value) for value in list(info.k)[:6])
        if not (fx > 0 and fy > 0 and info.width > 0 and info.height > 0):
            raise ImageError(
                f'camera_info {info.width}x{info.height} has focal lengths {fx} and {fy}: '
                'calibrate the camera, or set use_depth to false'
            )
        return cls(fx, fy, cx, cy, info.width, info.height)

    def ray(self, u: float, v: float, width: int, height: int) -> tuple[float, float]:
        """Return x/z and y/z through the point (u, v) of the image scaled to `width` x `height`.

        (0, 0) is the corner of the first pixel, whose centre is (0, 0) in K.
        """
        x = u * self.width / width - 0.5
        y = v * self.height / height - 0.5
        return (x - self.cx) / self.fx, (y - self.cy) / self.fy


def detections_3d_message(
    detections: Any,
    size: tuple[int, int],
    depth: np.ndarray,
    camera: Pinhole,
    labels: np.ndarray | None = None,
) -> Detection3DArray:
    """Lift detections into space; those without measured depth are left out.

    Args:
        detections: vision_msgs/Detection2DArray in pixels.
        size: (width, height) of the image they are in.
        depth: (H, W) float32 metres, NaN where nothing was measured, registered to the image; of
            any size with the same field of view.
        camera: intrinsics of the image or of the depth.
        labels: label map (0 = background) of `size`; where it covers a part of a box, only depths
            of that part count.
    """
    message = Detection3DArray(header=detections.header)
    inside = None if labels is None else _resized(labels, depth.shape)
    for detection in detections.detections:
        edges = _edges(detection.bbox)
        depths = _depths(edges, size, depth, inside)
        if depths.size >= _FEWEST_PIXELS:
            message.detections.append(_lifted(detection, edges, size, depths, camera))
    return message


def _edges(bounds: Any) -> tuple[float, float, float, float]:
    x, y = bounds.center.position.x, bounds.center.position.y
    half_width, half_height = bounds.size_x / 2, bounds.size_y / 2
    return x - half_width, y - half_height, x + half_width, y + half_height


def _depths(
    edges: tuple[float, float, float, float],
    size: tuple[int, int],
    depth: np.ndarray,
    labels: np.ndarray | None,
) -> np.ndarray:
    """Return the measured depths of the object in the box with these edges."""
    scale = (depth.shape[1] / size[0], depth.shape[0] / size[1]) * 2
    left, top, right, bottom = (round(edge * s) for edge, s in zip(edges, scale, strict=True))
    if labels is not None:
        window = labels[top:bottom, left:right]
        if window.any():
            # Boxes overlap; the label that covers most of this one is the object's own.
            own = int(np.bincount(window[window > 0].ravel()).argmax())
            return _finite(depth[top:bottom, left:right][window == own])
    # Without a mask the middle of the box is the likeliest to be on the object.
    margin_x, margin_y = (right - left) // 4, (bottom - top) // 4
    return _finite(depth[top + margin_y : bottom - margin_y, left + margin_x : right - margin_x])


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _resized(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if labels.shape == shape:
        return labels
    rows = np.arange(shape[0]) * labels.shape[0] // shape[0]
    columns = np.arange(shape[1]) * labels.shape[1] // shape[1]
    return labels[np.ix_(rows, columns)]


def _lifted(
    detection: Any,
    edges: tuple[float, float, float, float],
    size: tuple[int, int],
    depths: np.ndarray,
    camera: Pinhole,
) -> Detection3D:
    z = float(np.median(depths))
    near, far = (float(value) for value in np.percentile(depths, _SPREAD))
    x1, y1 = camera.ray(edges[0], edges[1], *size)
    x2, y2 = camera.ray(edges[2], edges[3], *size)
    lifted = Detection3D(header=detection.header, results=detection.results, id=detection.id)
    lifted.bbox.center.position.x = (x1 + x2) / 2 * z
    lifted.bbox.center.position.y = (y1 + y2) / 2 * z
    lifted.bbox.center.position.z = z
    lifted.bbox.center.orientation.w = 1.0
    lifted.bbox.size.x = (x2 - x1) * z
    lifted.bbox.size.y = (y2 - y1) * z
    lifted.bbox.size.z = far - near
    return lifted
