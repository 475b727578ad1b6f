"""A perception node in this process, shown frame after frame: the stages of each answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from benchmarks.frames import sample_frames
from unifiedmllm_ros.bridge.image import array_to_image, rgb_to_jpeg
from unifiedmllm_ros.nodes.inputs import sensor_qos
from unifiedmllm_ros.nodes.perception_node import PerceptionNode
from unifiedmllm_ros.nodes.statistics import Statistics

_SECONDS = 5.0
_TRIES = 20
_QUALITY = 88


def stages_of_answers(
    model: str, image_input: str, instruction: str, count: int
) -> list[Mapping[str, float]]:
    """Publish `count` frames, each when the one before is answered; the first tenth is left out."""
    context = Context()
    rclpy.init(context=context)
    settings = {'model': model, 'input': image_input, 'instruction': instruction}
    overrides = [Parameter(name, value=value) for name, value in settings.items()]
    node = PerceptionNode(context=context, parameter_overrides=overrides)
    answers = _Answers()
    node.statistics = answers
    camera = rclpy.create_node('camera', context=context)
    publish = _publisher(camera, image_input)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    try:
        if not node.start():
            raise RuntimeError('perception_node did not start')
        for number in range(count):
            answers.expect(number + 1, lambda index=number: publish(index))
    finally:
        executor.shutdown()
        thread.join()
        node.destroy_node()
        camera.destroy_node()
        rclpy.try_shutdown(context=context)
    return answers.stages[count // 10 :]


def _publisher(camera: Any, image_input: str) -> Callable[[int], None]:
    frames = sample_frames(10)
    if image_input == 'raw':
        publisher = camera.create_publisher(Image, 'image', sensor_qos())
        messages = [array_to_image(rgb, 'rgb8', Header()) for rgb in frames]
    else:
        publisher = camera.create_publisher(CompressedImage, 'image/compressed', sensor_qos())
        messages = [rgb_to_jpeg(rgb, Header(), _QUALITY) for rgb in frames]
    return lambda index: publisher.publish(messages[index % len(messages)])


class _Answers(Statistics):
    """Statistics that keep the stages of every answer."""

    def __init__(self) -> None:
        super().__init__()
        self.stages: list[Mapping[str, float]] = []
        self._more = threading.Condition()

    def answer(self, stages_ms: Mapping[str, float], age_ms: float | None) -> None:
        super().answer(stages_ms, age_ms)
        with self._more:
            self.stages.append(dict(stages_ms))
            self._more.notify_all()

    def expect(self, count: int, publish: Callable[[], None]) -> None:
        """Publish until there are `count` answers; an image sent best effort may be lost."""
        with self._more:
            for _ in range(_TRIES):
                publish()
                if self._more.wait_for(lambda: len(self.stages) >= count, _SECONDS):
                    return
        raise TimeoutError(f'no answer number {count}')
