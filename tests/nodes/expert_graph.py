"""An expert node with scripted experts and a client node, on one executor thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, KeyValue
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter

from tests.nodes.graph import SECONDS, Inbox, raw_image
from tests.nodes.scripted import BoxMask
from unifiedmllm_ros import msg
from unifiedmllm_ros.action import ExecuteTask
from unifiedmllm_ros.cancellation import Cancel, check
from unifiedmllm_ros.experts.base import (
    AudioResult,
    ImageResult,
    OnProgress,
    Progress,
    Provenance,
    Request,
    Result,
    VideoResult,
    VideoSegmentationResult,
)
from unifiedmllm_ros.experts.configuration import ExpertsConfig
from unifiedmllm_ros.experts.registry import ExpertRegistry
from unifiedmllm_ros.nodes.expert_node import ExpertNode
from unifiedmllm_ros.router import Router

STEPS = 5


class Script:
    """What the scripted experts do and did.

    started: set when a run begins; gate: each step after the first waits until it is set; end: so
    does the end of a run.
    defects: raised, in order, instead of a run. steps: how many a run took, one entry a run.
    """

    def __init__(self) -> None:
        self.started = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.end = threading.Event()
        self.end.set()
        self.defects: list[BaseException] = []
        self.steps: list[int] = []
        self.requests: list[Request] = []
        self.fractions: list[float] | None = None
        self.threads: set[int] = set()

    def run(self, request: Request, progress: OnProgress, cancel: Cancel) -> None:
        self.threads.add(threading.get_ident())
        self.requests.append(request)
        if self.defects:
            raise self.defects.pop(0)
        self.steps.append(0)
        for step in range(STEPS):
            self.started.set()
            while step and not self.gate.wait(0.005):
                check(cancel, 'the run')
            check(cancel, 'the run')
            fraction = self.fractions[step] if self.fractions else (step + 1) / STEPS
            preview = np.full((8, 8, 3), 50 * step, np.uint8)
            progress(Progress('denoise', fraction, preview))
            self.steps[-1] += 1
        while not self.end.wait(0.005):
            check(cancel, 'the run')


SCRIPT = Script()
"""The script of the test that runs; the graph sets a new one."""


class Scripted:
    """An expert whose results are plain: colours of the seed, black videos, silence."""

    def __init__(self, name: str, weights: Path | None = None, result: str = 'image') -> None:
        self.name = name
        self._result = result

    def load(self) -> None:
        pass

    def unload(self) -> None:
        pass

    def run(self, request: Request, progress: OnProgress, cancel: Cancel) -> Result:
        SCRIPT.run(request, progress, cancel)
        parameters = {'steps': STEPS, **request.parameters}
        seen = Provenance(self.name, 'script', 'none', request.seed, parameters, 12.5, 'cpu', 'f32')
        return _made(self._result, request, seen)


def _made(kind: str, request: Request, provenance: Provenance) -> Result:
    width, height = int(request.parameters.get('width', 64)), 48
    picture = np.full((height, width, 3), request.seed % 256, np.uint8)
    if kind == 'video':
        return VideoResult(provenance, (picture,) * 3, 8.0)
    if kind == 'sound':
        return AudioResult(provenance, np.zeros(1600, np.float32), 16_000)
    if kind == 'masks':
        masks = BoxMask('boxes').run(request, lambda p: None, lambda: False).masks
        return VideoSegmentationResult(provenance, (masks,) * (1 + len(request.frames)))
    return ImageResult(provenance, (picture,))


def scripted_router() -> Router:
    implementation = f'{__name__}:Scripted'
    made = {'image_edit': 'image', 'region_edit': 'image', 'text_to_image': 'image'}
    made |= {'layout_to_image': 'image', 'text_to_video': 'video', 'text_to_audio': 'sound'}
    made |= {'video_segmentation': 'masks'}
    experts: dict[str, Any] = {
        kind: {
            'implementation': implementation,
            'kind': kind,
            'memory_mib': 100,
            'licence': 'MIT',
            'defaults': {'result': result},
        }
        for kind, result in made.items()
    }
    experts['boxes'] = {
        'implementation': 'tests.nodes.scripted:BoxMask',
        'kind': 'segmentation',
    }
    tasks = {'edit': 'image_edit', 'regedit': 'region_edit', 'gen': 'text_to_image'}
    tasks |= {'layout': 'layout_to_image', 'vidgen': 'text_to_video', 'audgen': 'text_to_audio'}
    tasks |= {'seg': 'boxes', 'vidseg': 'video_segmentation'}
    config = ExpertsConfig.model_validate({'experts': experts, 'tasks': tasks})
    return Router(ExpertRegistry(config, Path()))


class ExpertGraph:
    """The node under test in namespace /robot, and a client of its action and services."""

    def __init__(self, output: Path, *parameters: Parameter) -> None:
        global SCRIPT
        self.script = SCRIPT = Script()
        self.node = ExpertNode(
            lambda settings: scripted_router(),
            namespace='robot',
            parameter_overrides=[Parameter('output_folder', value=str(output)), *parameters],
        )
        self.client = Node('client', namespace='robot')
        self.diagnostics = Inbox()
        self.client.create_subscription(DiagnosticArray, '/diagnostics', self.diagnostics, 10)
        self.executing = ActionClient(self.client, ExecuteTask, 'execute_task')
        self.left = False
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.executor.add_node(self.client)
        self._stopping = threading.Event()
        self.thread = threading.Thread(target=self._spin, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.script.gate.set()
        self.script.end.set()
        # Shut down under its own feet an executor may fail at a reply that just comes in.
        self._stopping.set()
        self.executor.wake()
        self.thread.join(SECONDS)
        self.node.destroy_node()
        if not self.left:
            self.executing.destroy()
        self.client.destroy_node()
        self.executor.shutdown()

    def _spin(self) -> None:
        while not self._stopping.is_set():
            self.executor.spin_once()

    def leave(self) -> None:
        """Go away as an action client, in the middle of whatever was asked."""
        self.left = True
        self.executor.create_task(self.executing.destroy)

    def call(self, kind: Any, name: str, request: Any) -> Any:
        return self.result(self.call_async(kind, name, request))

    def call_async(self, kind: Any, name: str, request: Any) -> Any:
        client = self.client.create_client(kind, name)
        assert client.wait_for_service(SECONDS)
        return client.call_async(request)

    def result(self, future: Any) -> Any:
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        assert done.wait(SECONDS), 'no answer in time'
        return future.result()

    def transition(self, label: str) -> bool:
        request = ChangeState.Request()
        request.transition.label = label
        return self.call(ChangeState, 'expert_node/change_state', request).success

    def set(self, **values: Any) -> Any:
        parameters = [Parameter(name, value=value) for name, value in values.items()]
        request = SetParameters.Request(parameters=[p.to_parameter_msg() for p in parameters])
        return self.call(SetParameters, 'expert_node/set_parameters', request).results[0]

    def activate(self) -> None:
        assert self.transition('configure')
        assert self.transition('activate')

    def goal(
        self, task: str, argument: str = '', feedback: Inbox | None = None, **fields: Any
    ) -> Any:
        """Send a goal; return its handle."""
        assert self.executing.wait_for_server(SECONDS)
        heard = feedback or Inbox()
        goal = task_goal(task, argument, **fields)
        return self.result(self.executing.send_goal_async(goal, lambda m: heard(m.feedback)))

    def execute(self, task: str, argument: str = '', **fields: Any) -> tuple[Any, Inbox]:
        """Carry out a task; return (wrapped result, feedback).

        Clients hear nothing more once they have the result.
        """
        feedback = Inbox()
        handle = self.goal(task, argument, feedback, **fields)
        return self.result(handle.get_result_async()), feedback

    def watch(self, task: str, argument: str = '', **fields: Any) -> tuple[Any, list[Any]]:
        """Carry out a task whose run ends when all feedback has come; return it too."""
        feedback = Inbox()
        self.script.end.clear()
        handle = self.goal(task, argument, feedback, **fields)
        feedback.wait(lambda f: f.progress == 1.0)
        self.until(lambda: self.script.steps[-1] == STEPS)
        self.script.end.set()
        return self.result(handle.get_result_async()), feedback.messages

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what no message tells, looking between callbacks."""
        done = threading.Event()
        timer = self.client.create_timer(0.005, lambda: condition() and done.set())
        assert done.wait(SECONDS), 'did not happen in time'
        self.client.destroy_timer(timer)

    def status(self, name: str, **values: str) -> dict[str, str]:
        """Wait for diagnostics of this name with these values; return all of its values."""
        found: list[dict[str, str]] = []

        def fits(message: Any) -> bool:
            for status in message.status:
                told = {item.key: item.value for item in status.values}
                if status.name == f'/robot/expert_node: {name}' and told.items() >= values.items():
                    found.append(told)
                    return True
            return False

        self.diagnostics.wait(fits)
        return found[-1]


def task_goal(
    task: str,
    argument: str = '',
    *,
    regions: Mapping[str, tuple[float, float, float, float]] | None = None,
    parameters: Mapping[str, str] | None = None,
    image: bool = False,
    **fields: Any,
) -> ExecuteTask.Goal:
    call = msg.TaskCall(task=task, argument=argument)
    for phrase, corners in (regions or {}).items():
        box = msg.Box(**dict(zip(('x1', 'y1', 'x2', 'y2'), corners, strict=True)), confidence=1.0)
        call.regions.append(msg.Region(phrase=phrase, boxes=[box]))
    pairs = [KeyValue(key=key, value=value) for key, value in (parameters or {}).items()]
    if image:
        fields['images'] = [raw_image(42)]
    return ExecuteTask.Goal(call=call, parameters=pairs, **fields)


def closing(output: Path, *parameters: Parameter) -> Iterator[ExpertGraph]:
    graph = ExpertGraph(output, *parameters)
    yield graph
    graph.close()
