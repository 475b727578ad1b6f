"""Frames of the sample recording with their ground truth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.locations import share
from unifiedmllm_ros.representation import Box

TOPIC = '/camera/image/compressed'


@dataclass(frozen=True, eq=False)
class SampleFrame:
    """A frame: (480, 640, 3) RGB, and by name the box and the (480, 640) mask of each object."""

    image: NDArray[np.uint8]
    boxes: dict[str, Box]
    masks: dict[str, NDArray[np.bool_]]


@cache
def sample_frames(step: int) -> tuple[SampleFrame, ...]:
    """Every step-th frame of the recording."""
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    folder = share('samples/tabletop')
    truth = (folder / 'ground_truth.jsonl').read_text(encoding='utf-8').splitlines()
    labels = np.load(folder / 'masks.npz')['labels']
    frames = []
    store = get_typestore(Stores.ROS2_JAZZY)
    with AnyReader([folder / 'recording'], default_typestore=store) as reader:
        connections = [one for one in reader.connections if one.topic == TOPIC]
        messages = list(reader.messages(connections))
        for index in range(0, len(messages), step):
            connection, _, raw = messages[index]
            message = reader.deserialize(raw, connection.msgtype)
            image = cv2.cvtColor(cv2.imdecode(message.data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
            objects = json.loads(truth[index])['objects']
            frames.append(
                SampleFrame(
                    np.asarray(image, np.uint8),
                    {one['name']: Box(*one['box']) for one in objects},
                    {one['name']: labels[index] == one['index'] + 1 for one in objects},
                )
            )
    return tuple(frames)


@cache
def sample_questions() -> dict[str, tuple[str, ...]]:
    """Questions about the sample, with the names of the objects that answer them."""
    scene = json.loads((share('samples/tabletop') / 'scene.json').read_text(encoding='utf-8'))
    return {one['instruction']: tuple(one['objects']) for one in scene['questions']}
