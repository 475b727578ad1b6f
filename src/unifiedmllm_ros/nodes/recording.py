"""A recording of the simulated table with its ground truth, for replay and scoring.

Reads what `tabletop/recording.py` writes: a rosbag2 folder `recording`, `ground_truth.jsonl`,
`masks.npz` and `scene.json`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.representation import Box

TOPICS = {
    '/camera/camera_info': 'camera_info',
    '/camera/depth/image_raw': 'depth',
    '/camera/image/compressed': 'image',
}
"""Recorded topics that are replayed, each under the name of its part of a frame."""


@dataclass(frozen=True)
class Question:
    """An instruction that suits the recording, and the names of the objects that answer it."""

    instruction: str
    objects: tuple[str, ...]


@dataclass(frozen=True)
class RecordedFrame:
    """One moment: serialised (CDR) messages by part ('camera_info', 'depth', 'image')."""

    stamp_ns: int
    messages: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Truth:
    """What is visible in a frame: boxes by object name, and labels (H, W) with their indices."""

    boxes: dict[str, Box]
    indices: dict[str, int]
    labels: np.ndarray

    def mask(self, names: tuple[str, ...]) -> np.ndarray:
        """Return the pixels (H, W) bool of the named objects together."""
        return np.isin(self.labels, [self.indices[name] for name in names if name in self.indices])


class Recording:
    """A recording folder.

    Raises:
        ConfigError: the folder holds none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / 'recording').is_dir() or not (folder / 'scene.json').is_file():
            raise ConfigError(f'{folder} holds no recording: it needs recording/ and scene.json')
        self._scene = json.loads((folder / 'scene.json').read_text(encoding='utf-8'))

    @property
    def rate(self) -> float:
        """Frames per second."""
        return float(self._scene['rate'])

    @property
    def questions(self) -> tuple[Question, ...]:
        """Instructions that suit the recording."""
        return tuple(
            Question(entry['instruction'], tuple(entry['objects']))
            for entry in self._scene['questions']
        )

    @cached_property
    def frames(self) -> tuple[RecordedFrame, ...]:
        """All frames in order."""
        return tuple(_read(self.folder / 'recording'))

    def truth(self, index: int) -> Truth:
        """Return the ground truth of frame `index`."""
        record = self._records[index]
        boxes = {item['name']: _box(item['box']) for item in record['objects']}
        indices = {item['name']: int(item['index']) + 1 for item in record['objects']}
        shown = {name: box for name, box in boxes.items() if box is not None}
        return Truth(shown, indices, self._labels[index])

    @cached_property
    def _records(self) -> list[dict[str, Any]]:
        text = (self.folder / 'ground_truth.jsonl').read_text(encoding='utf-8')
        return [json.loads(line) for line in text.splitlines()]

    @cached_property
    def _labels(self) -> np.ndarray:
        with np.load(self.folder / 'masks.npz') as archive:
            return np.asarray(archive['labels'])


def _read(bag: Path) -> list[RecordedFrame]:
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    frames: dict[int, RecordedFrame] = {}
    with AnyReader([bag], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
        wanted = [item for item in reader.connections if item.topic in TOPICS]
        for connection, stamp, data in reader.messages(connections=wanted):
            frame = frames.setdefault(stamp, RecordedFrame(stamp))
            frame.messages[TOPICS[connection.topic]] = bytes(data)
    return [frame for _, frame in sorted(frames.items()) if 'image' in frame.messages]


def _box(corners: list[float]) -> Box | None:
    x1, y1, x2, y2 = corners
    return Box(x1, y1, x2, y2) if x2 - x1 >= 0.001 and y2 - y1 >= 0.001 else None
