"""The publishers of the perception node."""

from __future__ import annotations

from typing import Any

from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray, Detection3DArray, LabelInfo

from unifiedmllm_ros import msg
from unifiedmllm_ros.bridge.answer import AnswerMessages

_LATCHED = DurabilityPolicy.TRANSIENT_LOCAL


class Outputs:
    """Publishes answers; silent while the node is not active. Any thread may publish."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._response = self._publisher(msg.Response, 'response')
        self._detections = self._publisher(Detection2DArray, 'detections')
        self._masks = self._publisher(Image, 'masks')
        self._label_info = self._publisher(LabelInfo, 'label_info', 1, _LATCHED)
        self._overlay = self._publisher(CompressedImage, 'overlay/compressed')
        self._detections_3d = self._publisher(Detection3DArray, 'detections_3d')

    def publish(self, messages: AnswerMessages) -> None:
        """Publish an answer; the response comes last, so that who has it has all the rest."""
        self._label_info.publish(messages.label_info)
        self._masks.publish(messages.masks)
        self._detections.publish(messages.detections)
        self._response.publish(messages.response)

    def publish_response(self, response: Any) -> None:
        """Publish a response alone, such as one that says why there is no answer."""
        self._response.publish(response)

    def publish_detections_3d(self, detections: Any) -> None:
        """Publish boxes in space."""
        self._detections_3d.publish(detections)

    def publish_overlay(self, overlay: Any) -> None:
        """Publish the drawn image."""
        self._overlay.publish(overlay)

    @property
    def overlay_wanted(self) -> bool:
        """Whether someone listens to the overlay."""
        return bool(self._overlay.get_subscription_count() > 0)

    def destroy(self) -> None:
        """Take all topics back."""
        for publisher in (
            self._response,
            self._detections,
            self._masks,
            self._label_info,
            self._overlay,
            self._detections_3d,
        ):
            self._node.destroy_lifecycle_publisher(publisher)

    def _publisher(
        self,
        kind: Any,
        topic: str,
        depth: int = 5,
        durability: DurabilityPolicy = DurabilityPolicy.VOLATILE,
    ) -> Any:
        return self._node.create_lifecycle_publisher(
            kind,
            topic,
            QoSProfile(depth=depth, durability=durability),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
