"""Task calls that an expert node carries out, one after the other.

All of it happens in the executor's thread, in callbacks; nobody waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from rclpy.action import ActionClient
from rclpy.clock import Clock, ClockType

from unifiedmllm_ros.action import ExecuteTask
from unifiedmllm_ros.bridge.results import failed_task_result, task_result_message
from unifiedmllm_ros.bridge.task_call import task_call_message
from unifiedmllm_ros.errors import ExpertError, ExpertNotInstalledError, UnifiedMLLMError
from unifiedmllm_ros.representation import TASKS, TaskCall
from unifiedmllm_ros.session import Session

OnTask = Callable[[str, float], None]
"""(task, progress from 0 to 1)."""
OnDone = Callable[[list[Any] | UnifiedMLLMError], None]
"""The TaskResult messages in the order of the calls, or why the whole was stopped."""

_WATCH_SECONDS = 0.1
_VIDEOS = ('.mp4',)


class ExpertClient:
    """Sends task calls to the action of an expert node.

    Args:
        node: that is the client.
        action: name of the action.
        timeout: seconds within which the server has to be there and to take a call.
    """

    def __init__(self, node: Any, action: str, timeout: Callable[[], float]) -> None:
        self._node = node
        self.action = action
        self.timeout = timeout
        self.client = ActionClient(node, ExecuteTask, action)
        self._errands: list[Errand] = []
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(_WATCH_SECONDS, self._watch, clock=steady)

    def start(self, calls: Sequence[TaskCall], image: Any, hear: OnTask, done: OnDone) -> Errand:
        """Have calls carried out, each on what those before it made of `image`.

        image: sensor_msgs/Image. hear, done: called in the executor's thread. May be called from
        any thread.
        """
        errand = Errand(self, calls, image, hear, done)
        self._errands.append(errand)
        self._node.executor.create_task(errand.next)
        return errand

    def stop_all(self, reason: UnifiedMLLMError) -> None:
        """Stop everything that is under way."""
        for errand in list(self._errands):
            errand.stop(reason)

    def destroy(self) -> None:
        """Give the action client back."""
        self._node.destroy_timer(self._timer)
        self.client.destroy()

    def _watch(self) -> None:
        for errand in list(self._errands):
            errand.watch()
        self._errands = [errand for errand in self._errands if not errand.ended]


class Errand:
    """The calls of one answer on their way through an expert node."""

    def __init__(
        self,
        client: ExpertClient,
        calls: Sequence[TaskCall],
        image: Any,
        hear: OnTask,
        done: OnDone,
    ) -> None:
        self.ended = False
        self._client = client
        self._waiting = list(calls)
        self._image: Any | None = image
        self._video = ''
        self._memory = Session()
        self._hear, self._done = hear, done
        self._results: list[Any] = []
        self._call: TaskCall | None = None
        self._number = 0
        self._sent = False
        self._goal: Any = None
        self._seen = 0.0  # when the server was there last, or took the call

    def next(self) -> None:
        """Go on to the next call, or end."""
        if self.ended:
            return
        if not self._waiting:
            self.ended = True
            self._done(self._results)
            return
        self._number += 1
        self._sent, self._goal = False, None
        self._call = self._memory.completed(self._waiting.pop(0))
        self._memory.regions = self._call.regions or self._memory.regions
        self._seen = time.monotonic()
        self._hear(self._call.task, 0.0)
        self.watch()

    def watch(self) -> None:
        """Send the call once the server is there; fail where it stays away."""
        if self.ended or self._call is None:
            return
        present, now = self._client.client.server_is_ready(), time.monotonic()
        if present and not self._sent:
            self._send(self._call)
        if present and self._goal is not None:
            self._seen = now
        if now - self._seen > self._client.timeout():
            self._fail(self._absence(present))

    def stop(self, reason: UnifiedMLLMError) -> None:
        """Stop; what the expert node still does is cancelled and not heard of any more."""
        if self.ended:
            return
        self.ended = True
        if self._goal is not None:
            self._goal.cancel_goal_async()
        self._done(reason)

    def _send(self, call: TaskCall) -> None:
        self._sent = True
        number = self._number
        goal = ExecuteTask.Goal(call=task_call_message(call))
        spec = TASKS.get(call.task)
        if spec is None or spec.image:
            if self._video:
                goal.video_path = self._video
            elif self._image is not None:
                goal.images = [self._image]
            else:
                self._fail(
                    ExpertError(
                        f'task {call.task!r} would go on from an image that is too large for a '
                        'message: raise max_message_pixels of the expert node'
                    )
                )
                return
        sending = self._client.client.send_goal_async(
            goal, lambda message: self._heard(number, message.feedback)
        )
        sending.add_done_callback(lambda future: self._taken(number, future.result()))

    def _heard(self, number: int, feedback: Any) -> None:
        if number == self._number and self._call is not None and not self.ended:
            self._hear(self._call.task, feedback.progress)

    def _taken(self, number: int, goal: Any) -> None:
        late = self.ended or number != self._number
        if not goal.accepted:
            if not late:
                self._fail(ExpertError(f'the action {self._client.action} refused the call'))
        elif late:
            goal.cancel_goal_async()
        else:
            self._goal, self._seen = goal, time.monotonic()
            goal.get_result_async().add_done_callback(
                lambda future: self._came(number, future.result().result)
            )

    def _came(self, number: int, result: Any) -> None:
        if self.ended or number != self._number or self._call is None:
            return
        if not result.error_code:
            self._take(result)
        self._results.append(task_result_message(self._call, result))
        self.next()

    def _take(self, result: Any) -> None:
        """Remember a picture or video that was made: later calls go on from it."""
        videos = [path for path in result.paths if path.endswith(_VIDEOS)]
        if result.images:
            self._image, self._video = result.images[0], ''
        elif videos:
            self._image, self._video = None, videos[0]
        elif any(path.endswith('.png') for path in result.paths) and not result.masks.data:
            self._image, self._video = None, ''

    def _fail(self, error: UnifiedMLLMError) -> None:
        if self._goal is not None:
            self._goal.cancel_goal_async()
        if self._call is not None:
            self._results.append(failed_task_result(self._call, error))
        self.next()

    def _absence(self, present: bool) -> UnifiedMLLMError:
        action, seconds = self._client.action, self._client.timeout()
        if self._goal is not None:
            return ExpertError(f'the expert node of the action {action} has gone during the task')
        if present:
            return ExpertError(
                f'the expert node of the action {action} did not take the call within '
                f'{seconds:g} s (expert_node_timeout)'
            )
        return ExpertNotInstalledError(
            f'no expert node offers the action {action}: start one (experts.launch.py), or set '
            "expert_node to its name, or to '' for the experts of this process"
        )
