"""A recorded camera and an operator as ROS nodes, beside the perception node under their eyes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String

from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.msg import Response
from unifiedmllm_ros.nodes.inputs import sensor_qos
from unifiedmllm_ros.nodes.perception_node import PerceiverFactory, PerceptionNode
from unifiedmllm_ros.nodes.recording import RecordedFrame

_REMAPPINGS = {
    'image/compressed': '/camera/image/compressed',
    'depth': '/camera/depth/image_raw',
    'camera_info': '/camera/camera_info',
}
_ANSWER_TOPICS = {'response': Response, 'masks': Image, 'overlay/compressed': CompressedImage}
_RESEND_SECONDS = 5.0


@dataclass(frozen=True, eq=False)
class Seen:
    """What came out for one image, and how long after it was published the response came."""

    response: Any
    masks: Any | None
    overlay: Any | None
    latency_ms: float


class Replay:
    """A context that holds the running nodes; frames and instructions go in, answers come out.

    Args:
        perceiver_factory: of the perception node.
        parameters: of the perception node.
    """

    def __init__(self, perceiver_factory: PerceiverFactory, parameters: dict[str, Any]) -> None:
        self._factory = perceiver_factory
        self._parameters = parameters
        self._changed = threading.Condition()
        self._arrived: dict[tuple[str, int], Any] = {}
        self._came: dict[int, float] = {}
        self._shown = False

    def __enter__(self) -> Replay:
        self._context = Context()
        rclpy.init(context=self._context)
        remap = [word for a, b in _REMAPPINGS.items() for word in ('-r', f'{a}:={b}')]
        self.perception = PerceptionNode(
            self._factory,
            context=self._context,
            cli_args=['--ros-args', *remap],
            parameter_overrides=[Parameter(k, value=v) for k, v in self._parameters.items()],
        )
        self._camera = Node('camera', namespace='camera', context=self._context)
        self._operator = Node('operator', context=self._context)
        self._open_topics()
        self._executor = SingleThreadedExecutor(context=self._context)
        for node in (self.perception, self._camera, self._operator):
            self._executor.add_node(node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the nodes."""
        self._executor.shutdown()
        self._thread.join()
        for node in (self.perception, self._camera, self._operator):
            node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def _start(self) -> None:
        if not self.perception.start():
            reason = self.perception.statistics.snapshot().last_error
            raise ConfigError(f'perception_node did not start: {reason}')
        self._until(self._connected, 'the topics to be connected')

    def instruct(self, instruction: str, timeout: float = 60.0) -> None:
        """Publish the standing instruction, and wait until the node follows it.

        The node asks it of the newest image at once; that answer is waited for and dropped, so that
        it does not stand in the way of the next image.
        """
        self._instructions.publish(String(data=instruction))
        self._until(lambda: self.perception.instruction == instruction, 'the instruction', timeout)
        if self._shown:
            self._wait(lambda: self._answered(instruction), timeout)
        with self._changed:
            self._arrived.clear()

    def show(self, frame: RecordedFrame, timeout: float = 60.0) -> Seen:
        """Publish a frame and return what came out about it.

        Raises:
            TimeoutError: nothing came in `timeout` seconds.
        """
        self._shown = True
        published = time.monotonic()
        end = published + timeout
        key = frame.stamp_ns
        while time.monotonic() < end:
            self._publish(frame)
            # Images are sent best effort: one may be lost on a busy machine.
            patience = min(_RESEND_SECONDS, end - time.monotonic())
            if self._wait(lambda: self._complete(key), patience) or self._has(key, 'response'):
                return self._seen(key, published)
        raise TimeoutError(f'no answer came about the image of {key} ns in {timeout:.0f} s')

    def _open_topics(self) -> None:
        self._publishers = {
            'image': self._camera.create_publisher(
                CompressedImage, 'image/compressed', sensor_qos()
            ),
            'depth': self._camera.create_publisher(Image, 'depth/image_raw', sensor_qos()),
            'camera_info': self._camera.create_publisher(CameraInfo, 'camera_info', sensor_qos()),
        }
        self._instructions = self._operator.create_publisher(String, 'instruction', 10)
        for topic, kind in _ANSWER_TOPICS.items():
            receive = self._receiver(topic)
            self._operator.create_subscription(kind, topic, receive, QoSProfile(depth=20))

    def _receiver(self, topic: str) -> Callable[[Any], None]:
        def receive(message: Any) -> None:
            stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
            with self._changed:
                self._arrived[topic, stamp] = message
                if topic == 'response':
                    self._came[stamp] = time.monotonic()
                self._changed.notify_all()

        return receive

    def _publish(self, frame: RecordedFrame) -> None:
        # Depth and intrinsics first, so that they are there when the image is answered.
        for part in ('camera_info', 'depth', 'image'):
            if part in frame.messages:
                self._publishers[part].publish(frame.messages[part])

    def _seen(self, key: int, published: float) -> Seen:
        with self._changed:
            latency = (self._came[key] - published) * 1000
            response, masks, overlay = (self._arrived.get((t, key)) for t in _ANSWER_TOPICS)
            self._arrived.clear()
            self._came.clear()
        return Seen(response, masks, overlay, latency)

    def _answered(self, instruction: str) -> bool:
        return any(
            topic == 'response' and message.instruction == instruction
            for (topic, _), message in self._arrived.items()
        )

    def _has(self, key: int, *topics: str) -> bool:
        return all((topic, key) in self._arrived for topic in topics)

    def _complete(self, key: int) -> bool:
        if not self._has(key, 'response'):
            return False
        # Without a model there is no answer, only an error: nothing else comes.
        failed = not self._arrived['response', key].model
        return failed or self._has(key, *_ANSWER_TOPICS)

    def _connected(self) -> bool:
        listening = [p.get_subscription_count() for p in self._publishers.values()]
        talking = [self._operator.count_publishers(topic) for topic in _ANSWER_TOPICS]
        return all([*listening, *talking, self._instructions.get_subscription_count()])

    def _wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(condition, timeout)

    def _until(self, condition: Callable[[], bool], what: str, timeout: float = 30.0) -> None:
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f'waited {timeout:.0f} s for {what}')
            time.sleep(0.005)
