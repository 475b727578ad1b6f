"""Frames of the sample recording, each with all of its questions: the set of export checks."""

from __future__ import annotations

import json
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.errors import ImageError
from unifiedmllm_ros.locations import share
from unifiedmllm_ros.runtime.export_check import Sample

TOPIC = '/camera/image/compressed'


def sample_questions(frames: int = 25) -> list[Sample]:
    """Return the recording's questions about `frames` of its frames, spread over it."""
    scene = json.loads(share('samples/tabletop/scene.json').read_text(encoding='utf-8'))
    questions = [question['instruction'] for question in scene['questions']]
    return [Sample(image, text) for image in sample_frames(frames) for text in questions]


def sample_frames(count: int) -> list[NDArray[np.uint8]]:
    """Return RGB frames, (480, 640, 3), spread over the recording."""
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    folder = share('samples/tabletop/recording')
    with AnyReader([folder], default_typestore=store) as reader:
        connections = [c for c in reader.connections if c.topic == TOPIC]
        stride = max(1, sum(c.msgcount for c in connections) // count)
        messages = reader.messages(connections)
        picked = islice((m for i, m in enumerate(messages) if i % stride == 0), count)
        return [_decoded(reader.deserialize(raw, c.msgtype).data) for c, _, raw in picked]


def _decoded(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.asarray(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ImageError('the sample recording holds a frame that is no image; fetch it again')
    return np.asarray(image, np.uint8)
