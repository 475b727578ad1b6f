"""perception_node as a program of its own: feeds it frames and watches its memory and counters."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from benchmarks.frames import sample_frames
from unifiedmllm_ros.bridge.image import rgb_to_jpeg
from unifiedmllm_ros.nodes.inputs import sensor_qos

PROGRAM = Path(__file__).resolve().parents[1] / 'scripts' / 'ros' / 'perception_node'
COUNTERS = ('frames', 'frames dropped', 'answers', 'errors')
_SECONDS = 60.0
_SAMPLES = 100


@dataclass(frozen=True)
class Sample:
    """State of the process after `sent` frames; counters as its diagnostics told them last."""

    sent: int
    resident_mib: float
    counts: dict[str, int]


class RunningNode:
    """A process that runs perception_node, and a camera and a watcher in this one."""

    def __init__(self, process: subprocess.Popen[bytes], node: Any) -> None:
        self._process = psutil.Process(process.pid)
        self._node = node
        self._values: dict[str, str] = {}
        self._changed = threading.Condition()
        self._images = node.create_publisher(CompressedImage, 'image/compressed', sensor_qos())
        self._messages = [rgb_to_jpeg(rgb, Header(), 88) for rgb in sample_frames(10)]
        node.create_subscription(DiagnosticArray, '/diagnostics', self._told, 10)

    def publish(self, number: int) -> None:
        """Publish a frame, stamped now."""
        message = self._messages[number % len(self._messages)]
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._images.publish(message)

    def sample(self, sent: int) -> Sample:
        """Look at the process."""
        resident = self._process.memory_info().rss / 2**20
        return Sample(sent, resident, self.counts())

    def counts(self) -> dict[str, int]:
        """Return the counters of the newest diagnostics."""
        with self._changed:
            return {name: int(self._values.get(name, 0)) for name in COUNTERS}

    def wait_ready(self) -> None:
        """Wait until the node is active and listens."""
        ready = self._wait(lambda: self._values.get('state') == 'active')
        end = time.monotonic() + _SECONDS
        while not self._images.get_subscription_count() and time.monotonic() < end:
            time.sleep(0.01)
        if not ready:
            raise TimeoutError(f'perception_node is not active: {self._values}')

    def wait_news(self) -> None:
        """Wait for the second next diagnostics, which tell of all that has been answered by now."""
        for _ in range(2):
            with self._changed:
                self._changed.wait(_SECONDS)

    def _wait(self, condition: Any) -> bool:
        with self._changed:
            return self._changed.wait_for(condition, _SECONDS)

    def _told(self, message: DiagnosticArray) -> None:
        with self._changed:
            self._values = {item.key: item.value for item in message.status[0].values}
            self._changed.notify_all()


@contextmanager
def running_node(model: str, instruction: str) -> Iterator[RunningNode]:
    """Start perception_node with compressed input and a standing instruction, and end it after."""
    settings = {'autostart': 'true', 'input': 'compressed', 'model': model}
    options = [word for name, value in settings.items() for word in ('-p', f'{name}:={value}')]
    command = [sys.executable, str(PROGRAM), '--ros-args', *options]
    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node('watcher', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    process = subprocess.Popen([*command, '-p', f'instruction:={instruction}'])
    try:
        running = RunningNode(process, node)
        running.wait_ready()
        yield running
        if process.poll() is not None:
            raise RuntimeError(f'perception_node ended with status {process.returncode}')
    finally:
        process.terminate()
        process.wait()
        executor.shutdown()
        thread.join()
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def feed(node: RunningNode, frames: int, rate: float) -> list[Sample]:
    """Publish `frames` frames at `rate` Hz; return about a hundred samples and one at the end."""
    samples = []
    begin = time.monotonic()
    for number in range(frames):
        time.sleep(max(0.0, begin + number / rate - time.monotonic()))
        node.publish(number)
        if number % max(1, frames // _SAMPLES) == 0:
            samples.append(node.sample(number))
    node.wait_news()
    return [*samples, node.sample(frames)]
