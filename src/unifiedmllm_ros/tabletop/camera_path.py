"""A slow, hand-held-like camera path around the table, a function of time alone."""

from __future__ import annotations

import math

from unifiedmllm_ros.tabletop.scene import Camera


def hover(seconds: float, fovy: float = 48.0, period: float = 12.0) -> Camera:
    """The camera at `seconds`: it swings left and right once per `period` and rises and nears."""
    phase = 2 * math.pi * seconds / period
    yaw = math.radians(24) * math.sin(phase)
    pitch = math.radians(37 + 7 * math.sin(phase + 1.1))
    distance = 0.92 - 0.07 * math.cos(phase * 2 + 0.4)
    target = (0.02 * math.sin(phase * 3), 0.03 + 0.01 * math.cos(phase * 2), 0.03)
    place = (
        target[0] + distance * math.sin(yaw) * math.cos(pitch),
        target[1] - distance * math.cos(yaw) * math.cos(pitch),
        target[2] + distance * math.sin(pitch),
    )
    return Camera(place, target, fovy, 0.008 * math.sin(phase * 2.5))
