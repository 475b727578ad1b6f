"""A recording of six small frames, in the format of samples/tabletop."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

WIDTH, HEIGHT, FRAMES = 64, 48, 6
MUG = [0.25, 0.25, 0.5, 0.5]
QUESTIONS = [('find the mug', ['red_mug']), ('is there a hammer?', [])]


def write(folder: Path) -> Path:
    types = get_typestore(Stores.ROS2_JAZZY)
    kinds = types.types
    header_type, time_type = kinds['std_msgs/msg/Header'], kinds['builtin_interfaces/msg/Time']
    kind = 'sensor_msgs/msg/CompressedImage'
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    jpeg = cv2.imencode('.jpg', picture)[1].ravel()
    labels = np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8)
    labels[:, 12:24, 16:32] = 1
    records = []
    with Writer(folder / 'recording', version=9, storage_plugin=StoragePlugin.MCAP) as bag:
        topic = bag.add_connection('/camera/image/compressed', kind, typestore=types)
        bag.add_connection('/camera/other', kind, typestore=types)
        for number in range(FRAMES):
            stamp = (number + 1) * 10**9
            header = header_type(time_type(number + 1, 0), 'camera')
            message = kinds[kind](header=header, format='jpeg', data=jpeg)
            bag.write(topic, stamp, types.serialize_cdr(message, kind))
            objects = [{'index': 0, 'name': 'red_mug', 'box': MUG}]
            records.append(json.dumps({'stamp': stamp, 'objects': objects}))
    np.savez_compressed(folder / 'masks.npz', labels=labels)
    (folder / 'ground_truth.jsonl').write_text('\n'.join(records) + '\n')
    questions = [{'instruction': text, 'objects': objects} for text, objects in QUESTIONS]
    scene = {'questions': questions, 'rate': 50.0, 'width': WIDTH, 'height': HEIGHT}
    (folder / 'scene.json').write_text(json.dumps(scene))
    return folder
