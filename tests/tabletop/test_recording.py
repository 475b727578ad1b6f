"""Recordings: the bag reads back, agrees with its ground truth, and so does the shipped sample."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.tabletop.catalogue import CATALOGUE
from unifiedmllm_ros.tabletop.dataset import pixel_box
from unifiedmllm_ros.tabletop.record import SceneRecord
from unifiedmllm_ros.tabletop.recording import (
    DEPTH_INFO_TOPIC,
    DEPTH_TOPIC,
    FRAME_ID,
    IMAGE_TOPIC,
    INFO_TOPIC,
    Recording,
    record,
)
from unifiedmllm_ros.tabletop.sample import SAMPLE
from unifiedmllm_ros.tabletop.scene import Placement
from unifiedmllm_ros.tabletop.textures import TEST

SHIPPED = Path(__file__).parents[2] / 'samples' / 'tabletop'


def messages(folder: Path) -> Iterator[tuple[str, int, Any]]:
    types = get_typestore(Stores.ROS2_JAZZY)
    with AnyReader([folder / 'recording'], default_typestore=types) as reader:
        for connection, stamp, raw in reader.messages():
            yield connection.topic, stamp, reader.deserialize(raw, connection.msgtype)


def decoded(message: Any) -> NDArray[Any]:
    picture = cv2.imdecode(message.data, cv2.IMREAD_COLOR)
    assert picture is not None
    return picture


def truths(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in open(folder / 'ground_truth.jsonl', encoding='utf-8')]


@pytest.fixture(scope='module')
def recorded(renderable: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    objects = (
        Placement('red_ramekin', 0, 'up', -0.1, 0.0, 0.0),
        Placement('blue_cylinder', 0, 'up', 0.1, 0.0, 0.0),
    )
    scene = replace(SAMPLE.scene, objects=objects)
    questions = (('find the red ramekin', ('red_ramekin',)),)
    small = Recording(scene, questions, seconds=0.4, rate=10.0, width=160, height=120)
    folder = tmp_path_factory.mktemp('recorded')
    assert record(small, folder) == 4
    with pytest.raises(ConfigError, match='exists already'):
        record(small, folder)
    return folder


def test_every_frame_has_its_truth(recorded: Path) -> None:
    lines = truths(recorded)
    labels = np.load(recorded / 'masks.npz')['labels']
    pictures = [(stamp, m) for topic, stamp, m in messages(recorded) if topic == IMAGE_TOPIC]
    assert [line['stamp'] for line in lines] == [stamp for stamp, _ in pictures]
    for line, mask, (stamp, picture) in zip(lines, labels, pictures, strict=True):
        scene = SceneRecord.from_json(line)
        assert (scene.width, scene.height) == (160, 120)
        assert [item.name for item in scene.objects] == ['red_ramekin', 'blue_cylinder']
        assert all(pixel_box(mask == item.index + 1) == item.box for item in scene.objects)
        assert picture.header.frame_id == FRAME_ID
        assert picture.header.stamp.sec * 10**9 + picture.header.stamp.nanosec == stamp
        red = decoded(picture)[mask == 1].mean(axis=0)
        assert red[2] > 1.5 * red[0]


def test_depth_puts_each_object_where_the_truth_says(recorded: Path) -> None:
    """Masked depth pixels, through the depth camera's matrix, surround the object's place."""
    lines = {line['stamp']: line for line in truths(recorded)}
    labels = np.load(recorded / 'masks.npz')['labels']
    order = list(lines)
    infos = {stamp: m for topic, stamp, m in messages(recorded) if topic == DEPTH_INFO_TOPIC}
    depths = [(stamp, m) for topic, stamp, m in messages(recorded) if topic == DEPTH_TOPIC]
    assert len(depths) == 2
    for stamp, depth in depths:
        assert (depth.width, depth.height, depth.encoding) == (80, 60, '16UC1')
        metres = depth.data.view('<u2').reshape(60, 80) / 1000
        mask = labels[order.index(stamp)][1::2, 1::2]
        for item in lines[stamp]['objects']:
            v, u = np.nonzero(mask == item['index'] + 1)
            rays = np.linalg.inv(infos[stamp].k.reshape(3, 3)) @ (u, v, np.ones(len(u)))
            points = rays * metres[v, u]
            np.testing.assert_allclose(points.mean(axis=1), item['position_camera'], atol=0.04)


def test_camera_info_comes_with_every_picture(recorded: Path) -> None:
    infos = [m for topic, _, m in messages(recorded) if topic == INFO_TOPIC]
    assert len(infos) == 4
    assert infos[0].k[2] == 79.5
    assert infos[0].p.reshape(3, 4)[:, :3].ravel().tolist() == infos[0].k.tolist()


def test_the_shipped_sample_is_whole() -> None:
    lines = truths(SHIPPED)
    labels = np.load(SHIPPED / 'masks.npz')['labels']
    description = json.loads((SHIPPED / 'scene.json').read_text(encoding='utf-8'))
    assert len(lines) == len(labels) == description['frames'] == 180
    names = {item['name'] for item in description['objects']}
    assert names <= set(CATALOGUE)
    assert any(len(question['objects']) > 1 for question in description['questions'])
    assert any(not question['objects'] for question in description['questions'])
    assert all(set(question['objects']) <= names for question in description['questions'])
    assert set(description['room'].values()) <= set(TEST.names)
    for line, mask in zip(lines[::20], labels[::20], strict=True):
        scene = SceneRecord.from_json(line)
        assert {item.name for item in scene.objects} == names
        assert all(pixel_box(mask == item.index + 1) == item.box for item in scene.objects)


def test_the_shipped_bag_is_small_and_complete() -> None:
    size = sum(path.stat().st_size for path in SHIPPED.rglob('*') if path.is_file())
    assert size <= 15 * 2**20
    stamps = [line['stamp'] for line in truths(SHIPPED)]
    seen: dict[str, list[int]] = {}
    for topic, stamp, message in messages(SHIPPED):
        seen.setdefault(topic, []).append(stamp)
        if topic == IMAGE_TOPIC and stamp == stamps[0]:
            assert decoded(message).shape == (480, 640, 3)
    assert seen[IMAGE_TOPIC] == seen[INFO_TOPIC] == stamps
    assert seen[DEPTH_TOPIC] == seen[DEPTH_INFO_TOPIC] == stamps[::3]
