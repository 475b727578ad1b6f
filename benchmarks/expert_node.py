"""What ROS costs around an expert, and how soon a cancel takes effect.

expert_node runs as the installed program, in a process of its own, with a tiny twin of Stable
Diffusion: the architecture of the published model and none of its size. The client is in this
process, as is the bare pipeline that the whole is held against.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.experts import PROMPT, SEED, SIZE, STEPS, _bare_pipeline
from benchmarks.frames import percentiles
from tests.experts.diffusion.twins import save_stable_diffusion

PROGRAM = Path(__file__).resolve().parents[1] / 'scripts' / 'ros' / 'expert_node'
ROUNDS, CANCELS, EDITS = 25, 15, 25
_SECONDS, _START_SECONDS = 30.0, 300.0


def run(scale: float = 1.0) -> dict[str, Any]:
    """Measure all; `scale` below 1 shortens everything, for trying it out."""
    os.environ['ROS_DOMAIN_ID'] = str(os.getpid() % 100 + 1)
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        save_stable_diffusion(made / 'sd')
        bare = _bare_pipeline(made / 'sd')
        with running_node(made) as client:
            return {
                'what': 'expert_node in a process of its own; a tiny twin on the CPU, its weights '
                'are random',
                'overhead': overhead(client, bare, max(3, round(ROUNDS * scale))),
                'image': image_round_trip(client, max(3, round(EDITS * scale))),
                'cancel': cancel(client, max(3, round(CANCELS * scale))),
            }


class Client:
    """Sends goals and waits for what comes of them."""

    def __init__(self, node: Any) -> None:
        from rclpy.action import ActionClient

        from unifiedmllm_ros.action import ExecuteTask

        self.node = node
        self.actions = ActionClient(node, ExecuteTask, 'execute_task')

    def send(self, hear: Callable[[Any], None] | None = None, **goal: Any) -> Any:
        """Send a goal; return its handle."""
        from unifiedmllm_ros.action import ExecuteTask

        heard = None if hear is None else (lambda message: hear(message.feedback))
        # On the executor's thread: rclpy notes a request only after it has been sent, and takes a
        # quick answer that another thread receives for somebody else's.
        sent = self.node.executor.create_task(
            self.actions.send_goal_async, ExecuteTask.Goal(**goal), heard
        )
        return self.wait(self.wait(sent))

    def execute(self, **goal: Any) -> Any:
        """Carry out a task; return its result."""
        result = self.wait(self.send(**goal).get_result_async()).result
        if result.error_code:
            raise RuntimeError(f'error {result.error_code}: {result.error_msg}')
        return result

    def ready(self) -> None:
        """Wait until the node takes jobs, and has loaded its expert."""
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            if not self.actions.wait_for_server(1.0):
                continue
            try:
                # A reply that is sent before the graph has settled is lost: ask once more.
                goal = self.send(call=_call('gen', PROMPT))
            except TimeoutError:
                continue
            result = goal.get_result_async()
            if not self.wait(result, _START_SECONDS).result.error_code:
                return
            time.sleep(0.1)
        raise TimeoutError('expert_node does not become active')

    @staticmethod
    def wait(future: Any, seconds: float = _SECONDS) -> Any:
        """Wait for a future that the executor's thread fulfils."""
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        if not done.wait(seconds):
            raise TimeoutError('no answer from expert_node')
        return future.result()


def overhead(client: Client, bare: Callable[[], np.ndarray], rounds: int) -> dict[str, Any]:
    """Return the times of the bare pipeline and of the same work through the action.

    Both alternate, so that a slow moment of the machine hits both; the pictures are compared.
    """
    times: dict[str, list[float]] = {'bare': [], 'action': [], 'expert': []}
    for index in range(rounds + 1):
        start = time.perf_counter()
        image = bare()
        middle = time.perf_counter()
        result = client.execute(call=_call('gen', PROMPT), seed=SEED)
        end = time.perf_counter()
        if index:  # the first of both warms up
            times['bare'].append((middle - start) * 1000)
            times['action'].append((end - middle) * 1000)
            times['expert'].append(_duration_ms(result))
    whole = [two - one for one, two in zip(times['bare'], times['action'], strict=True)]
    ros = [two - one for one, two in zip(times['expert'], times['action'], strict=True)]
    median = statistics.median(whole)
    return {
        'image': f'{SIZE}x{SIZE}, {STEPS} steps',
        'rounds': rounds,
        'bare_ms': percentiles(times['bare']),
        'action_ms': percentiles(times['action']),
        'ros_ms': percentiles(ros),
        'overhead_ms': median,
        'overhead_percent': 100 * median / statistics.median(times['bare']),
        'mark': 'at most 20 ms and 5 %',
        'same_picture': bool((np.frombuffer(result.images[0].data, np.uint8) == image.flat).all()),
    }


def image_round_trip(client: Client, rounds: int) -> dict[str, Any]:
    """Return what ROS adds where a raw image goes to the node and an edited one comes back."""
    from std_msgs.msg import Header

    from unifiedmllm_ros.bridge.image import array_to_image

    rgb = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    image = array_to_image(rgb, 'rgb8', Header())
    times = []
    for index in range(rounds + 1):
        start = time.perf_counter()
        result = client.execute(call=_call('edit', 'make it brighter'), images=[image])
        if index:
            times.append((time.perf_counter() - start) * 1000 - _duration_ms(result))
    return {'image': '640x480', 'rounds': rounds, 'ros_ms': percentiles(times)}


def cancel(client: Client, rounds: int) -> dict[str, Any]:
    """Return the time from the request to cancel to the result, beside that of one step."""
    latencies, steps, after = [], [], []
    for _ in range(rounds):
        begun = threading.Event()
        handle = client.send(
            lambda told, begun=begun: told.progress > 0.2 and begun.set(),
            call=_call('gen', PROMPT),
            seed=SEED,
        )
        result = handle.get_result_async()
        if not begun.wait(_SECONDS):
            raise TimeoutError('the job does not get on')
        start = time.perf_counter()
        handle.cancel_goal_async()
        wrapped = client.wait(result)
        latencies.append((time.perf_counter() - start) * 1000)
        if not wrapped.result.error_code:
            raise RuntimeError('the job ended before it could be cancelled: take more steps')
        again = client.execute(call=_call('gen', PROMPT), seed=SEED)
        steps.append(_duration_ms(again) / STEPS)
        after.append(bytes(again.images[0].data))
    return {
        'rounds': rounds,
        'latency_ms': percentiles(latencies),
        'step_ms': percentiles(steps),
        'next_job_is_the_same': len(set(after)) == 1,
    }


@contextmanager
def running_node(folder: Path) -> Iterator[Client]:
    """Start expert_node with the twin of a folder, and end it after."""
    import rclpy
    from rclpy.context import Context
    from rclpy.executors import SingleThreadedExecutor

    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node('client', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    settings = {'autostart': 'true', 'experts': _written(folder), 'output_folder': folder / 'out'}
    options = [word for name, value in settings.items() for word in ('-p', f'{name}:={value}')]
    process = subprocess.Popen([sys.executable, str(PROGRAM), '--ros-args', *options])
    try:
        client = Client(node)
        client.ready()
        yield client
        if process.poll() is not None:
            raise RuntimeError(f'expert_node ended with status {process.returncode}')
    finally:
        process.terminate()
        process.wait()
        executor.shutdown()
        thread.join()
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def _written(folder: Path) -> Path:
    experts = {
        'sd': {
            'implementation': 'unifiedmllm_ros.experts.diffusion.text_to_image:TextToImage',
            'kind': 'text_to_image',
            'weights': str(folder / 'sd'),
            'memory_mib': 80,
            'defaults': {'device': 'cpu', 'steps': STEPS, 'width': SIZE, 'height': SIZE},
        },
        'classical': {
            'implementation': 'unifiedmllm_ros.experts.classical_edit:ClassicalEdit',
            'kind': 'image_edit',
            'memory_mib': 10,
        },
    }
    path = folder / 'experts.yaml'
    tasks = {'gen': 'sd', 'edit': 'classical'}
    path.write_text(yaml.safe_dump({'experts': experts, 'tasks': tasks}), encoding='utf-8')
    return path


def _call(task: str, argument: str) -> Any:
    from unifiedmllm_ros.msg import TaskCall

    return TaskCall(task=task, argument=argument)


def _duration_ms(result: Any) -> float:
    duration = result.provenance.duration
    return duration.sec * 1000 + duration.nanosec / 1e6
