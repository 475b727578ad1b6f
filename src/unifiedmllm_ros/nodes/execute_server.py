"""The action `execute_task`: each goal is a job of the experts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from std_msgs.msg import Header

from unifiedmllm_ros.action import ExecuteTask
from unifiedmllm_ros.bridge.error_codes import error_code, error_message
from unifiedmllm_ros.bridge.image import rgb_to_jpeg
from unifiedmllm_ros.bridge.results import provenance_message
from unifiedmllm_ros.bridge.text import encodable
from unifiedmllm_ros.errors import Cancelled, UnifiedMLLMError
from unifiedmllm_ros.nodes.configuration import ExpertParameters
from unifiedmllm_ros.nodes.deferred import DeferredActionServer
from unifiedmllm_ros.nodes.job import Job, Order, Outcome, Phase, Standing

ACTION = 'execute_task'
# Each message costs the expert's work about a millisecond, and nobody watches steps of ten.
_PERIOD = 0.1
_FEEDBACK_TOPIC = f'{ACTION}/_action/feedback'
_MOST_BEFORE = 2**16 - 1


class ClientGoneError(UnifiedMLLMError):
    """A job whose client is no longer there."""

    code = 'cancelled'


class ExecuteServer:
    """Accepts every goal, and ends it with a result or with an error code.

    Args:
        node: on which the action is offered.
        admit: takes a job, or ends it.
        sweep: is called once a goal was asked to stop.
        settings: the parameters in effect.
    """

    def __init__(
        self,
        node: Any,
        admit: Callable[[Job], None],
        sweep: Callable[[], None],
        settings: Callable[[], ExpertParameters],
    ) -> None:
        self._node = node
        self._admit = admit
        self._settings = settings
        self._jobs: dict[bytes, Job] = {}
        self._alone_since: float | None = None
        self._destroyed = False
        self._server = DeferredActionServer(
            node, ExecuteTask, ACTION, self._accepted, lambda goal: sweep()
        )

    def destroy(self) -> None:
        """Take the action back; goals that have not ended are not heard of any more."""
        if not self._destroyed:
            self._destroyed = True
            self._server.destroy()

    def look_for_clients(self) -> None:
        """Stop all jobs when no action client has been there for `client_timeout` seconds.

        Each client listens to the feedback, so nobody is there when nobody listens.
        """
        timeout, now = self._settings().client_timeout, time.monotonic()
        topic = self._node.resolve_topic_name(_FEEDBACK_TOPIC)  # as it may be remapped
        if not timeout or not self._jobs or self._node.count_subscribers(topic):
            self._alone_since = None
            return
        self._alone_since = self._alone_since or now
        if now - self._alone_since >= timeout:
            for job in list(self._jobs.values()):
                job.stop(ClientGoneError('the action client has gone, and the job was stopped'))

    def _accepted(self, goal: Any) -> None:
        request, key = goal.request, bytes(goal.goal_id.uuid)
        order = Order(
            request.call,
            tuple(request.images),
            request.video_path,
            request.seed,
            tuple(request.parameters),
        )
        job = Job(
            order,
            _Feedback(self._server, goal, self._settings, lambda: self._destroyed),
            lambda outcome: self._end(goal, key, outcome),
            lambda: goal.is_cancel_requested,
        )
        self._jobs[key] = job
        self._admit(job)

    def _end(self, goal: Any, key: bytes, outcome: Outcome | BaseException) -> None:
        self._jobs.pop(key, None)
        if self._destroyed:
            return
        if isinstance(outcome, Outcome):
            self._server.conclude(goal, goal.succeed, execution_result(outcome))
            return
        cancelled = isinstance(outcome, Cancelled) and goal.is_cancel_requested
        self._server.begin(goal)
        self._server.conclude(
            goal, goal.canceled if cancelled else goal.abort, execution_failure(outcome)
        )


class _Feedback:
    """Tells the client how its job stands: at once when its phase, what is being done or its place
    changes, progress alone no more often than every `_PERIOD` seconds, previews than they may come.
    """

    def __init__(
        self,
        server: DeferredActionServer,
        goal: Any,
        settings: Callable[[], ExpertParameters],
        muted: Callable[[], bool],
    ) -> None:
        self._server = server
        self._goal = goal
        self._settings = settings
        self._muted = muted
        self._matter: tuple[Any, ...] = ()
        self._told = self._shown = -1e9

    def __call__(self, standing: Standing) -> None:
        if self._muted():
            return
        settings, now = self._settings(), time.monotonic()
        shows = standing.preview is not None and 0 < settings.preview_period <= now - self._shown
        matter = (standing.phase, standing.detail, standing.position, standing.progress >= 1.0)
        if matter == self._matter and not shows and now - self._told < _PERIOD:
            return
        self._matter, self._told = matter, now
        if standing.phase > Phase.QUEUED:
            self._server.begin(self._goal)
        message = ExecuteTask.Feedback(
            phase=int(standing.phase),
            detail=encodable(standing.detail),
            progress=standing.progress,
            queue_position=min(standing.position, _MOST_BEFORE),
        )
        if standing.preview is not None and shows:
            self._shown = now
            images = self._goal.request.images
            header = images[0].header if images else Header()
            message.preview = rgb_to_jpeg(standing.preview, header, settings.preview_quality)
        self._goal.publish_feedback(message)


def execution_result(outcome: Outcome) -> Any:
    """Make the result of a job that was done."""
    return ExecuteTask.Result(
        images=outcome.messages.images,
        masks=outcome.messages.masks,
        label_info=outcome.messages.label_info,
        paths=list(outcome.paths),
        provenance=provenance_message(outcome.call.task, outcome.result.provenance),
    )


def execution_failure(error: BaseException) -> Any:
    """Make the result of a job that was not."""
    return ExecuteTask.Result(
        error_code=error_code(error), error_msg=encodable(error_message(error))
    )
