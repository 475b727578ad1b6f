"""A perception node and a client node on one executor thread, with waiting by events."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String
from vision_msgs.msg import Detection2DArray, LabelInfo

from tests.nodes.scripted import ScriptedModel, scripted_perceiver
from unifiedmllm_ros.action import Ask
from unifiedmllm_ros.bridge.image import array_to_image, rgb_to_jpeg
from unifiedmllm_ros.msg import Response
from unifiedmllm_ros.nodes.perception_node import PerceiverFactory, PerceptionNode

SECONDS = 30.0
RESEND = 2.0
TOPICS = {
    'response': Response,
    'detections': Detection2DArray,
    'masks': Image,
    'label_info': LabelInfo,
    'diagnostics': DiagnosticArray,
}


class Inbox:
    """The messages of a topic, in order of arrival."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self._arrived = threading.Condition()

    def __call__(self, message: Any) -> None:
        with self._arrived:
            self.messages.append(message)
            self._arrived.notify_all()

    def wait(
        self, fits: Callable[[Any], bool] = lambda message: True, seconds: float = SECONDS
    ) -> Any:
        """Return the first message that fits; fail when none came in time."""
        with self._arrived:
            found = self._arrived.wait_for(lambda: next(filter(fits, self.messages), None), seconds)
        assert found is not None, f'no message fits among {self.messages[-3:]}'
        return found

    def clear(self) -> None:
        with self._arrived:
            self.messages.clear()


class Graph:
    """The node under test in namespace /robot, and a client of all its topics."""

    def __init__(
        self,
        model: ScriptedModel,
        *parameters: Parameter,
        factory: PerceiverFactory | None = None,
    ) -> None:
        self.model = model
        self.node = PerceptionNode(
            factory or (lambda settings: scripted_perceiver(model)),
            namespace='robot',
            parameter_overrides=list(parameters),
        )
        self.client = Node('client', namespace='robot')
        self.inboxes = {name: self.listen(kind, name) for name, kind in TOPICS.items()}
        self.images = self.client.create_publisher(Image, 'image', 10)
        self.compressed = self.client.create_publisher(CompressedImage, 'image/compressed', 10)
        self.instructions = self.client.create_publisher(String, 'instruction', 10)
        self.asking = ActionClient(self.client, Ask, 'ask')
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.executor.add_node(self.client)
        self.thread = threading.Thread(target=self.executor.spin, daemon=True)
        self.thread.start()

    def listen(self, kind: Any, topic: str) -> Inbox:
        inbox = Inbox()
        latched = topic == 'label_info'
        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        name = '/diagnostics' if topic == 'diagnostics' else topic
        profile = QoSProfile(depth=50, durability=durability)
        self.client.create_subscription(kind, name, inbox, profile)
        return inbox

    def __getitem__(self, topic: str) -> Inbox:
        return self.inboxes[topic]

    def close(self) -> None:
        self.model.gate.set()
        self.executor.shutdown()
        self.thread.join(SECONDS)
        self.node.destroy_node()
        self.client.destroy_node()

    # Services

    def call(self, kind: Any, name: str, request: Any) -> Any:
        client = self.client.create_client(kind, name)
        assert client.wait_for_service(SECONDS)
        response = self.result(client.call_async(request))
        self.client.destroy_client(client)
        return response

    def inquire(self, kind: Any, name: str, request: Any) -> Any:
        """A request that changes nothing, to a node of another process, sent until it is answered.

        A server may be seen before it has seen the client's reply reader; that reply is lost.
        """
        client = self.client.create_client(kind, name)
        assert client.wait_for_service(SECONDS)
        answered = threading.Event()
        for _ in range(int(SECONDS / RESEND)):
            future = client.call_async(request)
            future.add_done_callback(lambda _: answered.set())
            if answered.wait(RESEND):
                break
            client.remove_pending_request(future)
        assert answered.is_set(), 'no answer in time'
        self.client.destroy_client(client)
        return future.result()

    def result(self, future: Any) -> Any:
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        assert done.wait(SECONDS), 'no answer in time'
        return future.result()

    def transition(self, label: str) -> bool:
        request = ChangeState.Request()
        request.transition.label = label
        return self.call(ChangeState, 'perception_node/change_state', request).success

    def state(self) -> str:
        request = GetState.Request()
        return self.call(GetState, 'perception_node/get_state', request).current_state.label

    def set(self, **values: Any) -> Any:
        parameters = [Parameter(name, value=value) for name, value in values.items()]
        request = SetParameters.Request(parameters=[p.to_parameter_msg() for p in parameters])
        return self.call(SetParameters, 'perception_node/set_parameters', request).results[0]

    # Topics

    def activate(self) -> None:
        assert self.transition('configure')
        assert self.transition('activate')
        self.connected(self.images if self.node.settings.input == 'raw' else self.compressed)
        self.connected(self.instructions)

    def connected(self, publisher: Any) -> None:
        """Wait until the node listens to a publisher of the client."""
        self.until(lambda: publisher.get_subscription_count() > 0)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what no message tells, looking between callbacks."""
        done = threading.Event()
        timer = self.client.create_timer(0.005, lambda: condition() and done.set())
        assert done.wait(SECONDS), 'did not happen in time'
        self.client.destroy_timer(timer)

    def instruct(self, text: str) -> None:
        self.instructions.publish(String(data=text))

    def send(self, stamp: int, rgb: np.ndarray | None = None) -> None:
        """Publish an image stamped with `stamp` seconds."""
        self.images.publish(raw_image(stamp, rgb))

    def send_compressed(self, stamp: int) -> None:
        self.compressed.publish(rgb_to_jpeg(picture(), header(stamp)))

    def ask(self, instruction: str, **goal: Any) -> tuple[Any, list[Any]]:
        """Ask through the action; return (wrapped result, feedback)."""
        feedback: list[Any] = []
        handle = self.ask_handle(instruction, feedback, **goal)
        return self.result(handle.get_result_async()), feedback

    def ask_handle(self, instruction: str, feedback: list[Any] | None = None, **goal: Any) -> Any:
        assert self.asking.wait_for_server(SECONDS)
        heard = [] if feedback is None else feedback
        request = Ask.Goal(instruction=instruction, **goal)
        return self.result(self.asking.send_goal_async(request, lambda m: heard.append(m.feedback)))


def header(stamp: int) -> Header:
    return Header(stamp=Time(sec=stamp), frame_id='camera')


def picture(width: int = 64, height: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def raw_image(stamp: int, rgb: np.ndarray | None = None) -> Image:
    return array_to_image(picture() if rgb is None else rgb, 'rgb8', header(stamp))


def stamped(stamp: int) -> Callable[[Any], bool]:
    """Fit messages about the image of this second."""
    return lambda message: message.header.stamp.sec == stamp
