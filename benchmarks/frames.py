"""Frames and questions that the measurements use: those of the sample recording."""

from __future__ import annotations

from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.locations import share
from unifiedmllm_ros.nodes.recording import Recording

IMAGE_TOPIC = '/camera/image/compressed'


def sample_recording() -> Recording:
    """The recording that comes with the package."""
    return Recording(share('samples/tabletop'))


def sample_frames(count: int) -> list[NDArray[np.uint8]]:
    """Decoded RGB frames, (480, 640, 3), spread over the recording."""
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    folder = share('samples/tabletop/recording')
    with AnyReader([folder], default_typestore=store) as reader:
        connections = [c for c in reader.connections if c.topic == IMAGE_TOPIC]
        total = sum(c.msgcount for c in connections)
        stride = max(1, total // count)
        messages = reader.messages(connections)
        picked = islice((m for i, m in enumerate(messages) if i % stride == 0), count)
        return [_decoded(reader.deserialize(raw, c.msgtype).data) for c, _, raw in picked]


def _decoded(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.asarray(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError('the sample recording holds a frame that is no image')
    return np.asarray(image, np.uint8)


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    """p50, p90, p99 and mean of a list of times in ms."""
    p50, p90, p99 = np.percentile(milliseconds, [50, 90, 99])
    values = {'p50': p50, 'p90': p90, 'p99': p99, 'mean': float(np.mean(milliseconds))}
    return {name: round(float(value), 2) for name, value in values.items()}
