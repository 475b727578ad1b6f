"""The simulated camera node, with a table that is painted, not rendered."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from tests.nodes.graph import Inbox
from unifiedmllm_ros.bridge.image import compressed_to_rgb, depth_to_metres, image_to_rgb
from unifiedmllm_ros.nodes.configuration import TabletopCameraParameters
from unifiedmllm_ros.nodes.tabletop_camera_node import TabletopCameraNode

K = np.array([[50.0, 0, 31.5], [0, 50.0, 23.5], [0, 0, 1]])
TOPICS = {
    'image': Image,
    'image/compressed': CompressedImage,
    'depth': Image,
    'camera_info': CameraInfo,
}


class PaintedTable:
    laid: list[PaintedTable] = []  # noqa: RUF012

    def __init__(self, settings: TabletopCameraParameters) -> None:
        self.seed, self.size = settings.seed, (settings.height, settings.width)
        self.thread, self.closed = threading.get_ident(), False
        self.laid.append(self)

    def frame(self, seconds: float) -> Any:
        assert self.thread == threading.get_ident()
        rgb = np.full((*self.size, 3), self.seed, np.uint8)
        return SimpleNamespace(rgb=rgb, depth=np.full(self.size, 1.5), intrinsics=K)

    def close(self) -> None:
        assert self.thread == threading.get_ident()
        self.closed = True


@pytest.fixture
def camera(ros: None) -> Iterator[SimpleNamespace]:
    PaintedTable.laid = []
    sizes = {'width': 64, 'height': 48, 'seed': 7, 'rate': 50.0}
    overrides = [Parameter(name, value=value) for name, value in sizes.items()]
    node = TabletopCameraNode(PaintedTable, namespace='table', parameter_overrides=overrides)
    client = Node('viewer', namespace='table')
    inboxes = {name: Inbox() for name in TOPICS}
    for name, kind in TOPICS.items():
        client.create_subscription(kind, name, inboxes[name], qos_profile_sensor_data)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.add_node(client)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    yield SimpleNamespace(node=node, client=client, inboxes=inboxes)
    executor.shutdown()
    thread.join()
    node.destroy_node()
    client.destroy_node()
    assert all(table.closed for table in PaintedTable.laid)


def test_all_topics_of_one_moment_share_their_header(camera: SimpleNamespace) -> None:
    inboxes = camera.inboxes

    def everywhere(message: Any) -> bool:
        return all(
            any(other.header == message.header for other in inbox.messages)
            for inbox in inboxes.values()
        )

    # Best effort: on a busy machine not every message arrives.
    depth = inboxes['depth'].wait(everywhere)
    image, compressed, info = (
        inboxes[name].wait(lambda other: other.header == depth.header)
        for name in ('image', 'image/compressed', 'camera_info')
    )
    assert depth.header.frame_id == 'camera_optical_frame'
    assert image_to_rgb(image).tolist() == np.full((48, 64, 3), 7).tolist()
    assert np.abs(compressed_to_rgb(compressed).astype(int) - 7).max() <= 2
    assert (depth_to_metres(depth) == 1.5).all()
    assert (info.width, info.height) == (64, 48)
    assert np.array_equal(info.k.reshape(3, 3), K)
    assert np.array_equal(info.p.reshape(3, 4)[:, :3], K)


def test_parameters_take_effect(camera: SimpleNamespace) -> None:
    def pixel(message: Any) -> int:
        return int(image_to_rgb(message)[0, 0, 0])

    def change(**values: Any) -> None:
        changes = [Parameter(name, value=value) for name, value in values.items()]
        assert all(result.successful for result in camera.node.set_parameters(changes))

    inboxes = camera.inboxes
    inboxes['image'].wait(lambda m: pixel(m) == 7)
    change(seed=9, frame_id='eye')
    inboxes['image'].wait(lambda m: pixel(m) == 9 and m.header.frame_id == 'eye')
    change(compressed=False, publish_depth=False, frame_id='blind')
    inboxes['image'].wait(lambda m: m.header.frame_id == 'blind')
    later = [
        name
        for name in ('depth', 'image/compressed')
        for m in inboxes[name].messages
        if m.header.frame_id == 'blind'
    ]
    assert len(later) <= 1  # the frame that was under way
    assert not camera.node.set_parameters([Parameter('rate', value=0.0)])[0].successful
