"""The subscriptions of the perception node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String

IMAGE_TOPICS = {'raw': ('image', Image), 'compressed': ('image/compressed', CompressedImage)}


@dataclass(frozen=True)
class Receivers:
    """Who gets the messages of each topic; called in the executor's thread."""

    image: Callable[[Any], None]
    instruction: Callable[[Any], None]
    depth: Callable[[Any], None]
    camera_info: Callable[[Any], None]


class Inputs:
    """Listens while it is open; opening again with another choice changes what it listens to."""

    def __init__(self, node: Any, receivers: Receivers) -> None:
        self._node = node
        self._receivers = receivers
        self._subscriptions: list[Any] = []

    def open(self, image_input: str, use_depth: bool) -> None:
        """Subscribe to the image topic of `image_input`, the instruction, and depth on request."""
        self.close()
        to = self._receivers
        topic, kind = IMAGE_TOPICS[image_input]
        self._listen(kind, topic, to.image, sensor_qos())
        self._listen(String, 'instruction', to.instruction, QoSProfile(depth=10))
        if use_depth:
            self._listen(Image, 'depth', to.depth, sensor_qos())
            self._listen(CameraInfo, 'camera_info', to.camera_info, sensor_qos())

    def close(self) -> None:
        """Stop listening."""
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())

    def _listen(self, kind: Any, topic: str, to: Callable[[Any], None], qos: QoSProfile) -> None:
        self._subscriptions.append(
            self._node.create_subscription(
                kind,
                topic,
                to,
                qos,
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
        )


def sensor_qos() -> QoSProfile:
    """Return a copy of the sensor-data profile, which overrides write into."""
    profile = qos_profile_sensor_data
    return QoSProfile(
        history=profile.history,
        depth=profile.depth,
        reliability=profile.reliability,
        durability=profile.durability,
    )
