"""The action `ask`: goals are answered by the worker, so no executor thread ever waits for one."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from unifiedmllm_ros.action import Ask
from unifiedmllm_ros.bridge.error_codes import error_code, error_message
from unifiedmllm_ros.bridge.response import error_response
from unifiedmllm_ros.bridge.results import failed_task_result, local_task_result
from unifiedmllm_ros.bridge.task_call import task_call_message
from unifiedmllm_ros.bridge.text import encodable
from unifiedmllm_ros.cancellation import Cancel
from unifiedmllm_ros.errors import Cancelled, UnifiedMLLMError
from unifiedmllm_ros.nodes.deferred import DeferredActionServer
from unifiedmllm_ros.nodes.expert_client import Errand, OnDone, OnTask
from unifiedmllm_ros.nodes.forwarding import place_of
from unifiedmllm_ros.nodes.frame import BusyError, Frame
from unifiedmllm_ros.nodes.inquiry import Inquiry
from unifiedmllm_ros.nodes.worker import Worker

OnText = Callable[[str], None]
MOST_TOGETHER = 16
"""Goals that are answered in one go."""


@dataclass(frozen=True, eq=False)
class Asked:
    """What a goal asks, who hears of the text, and whether it should stop."""

    request: Any
    on_text: OnText
    cancel: Cancel


Answering = Callable[[Sequence[Asked]], Iterable[tuple[int, Inquiry | UnifiedMLLMError]]]
"""Answers goals together, each by its place; runs in the worker's thread."""
Forwarding = Callable[[Inquiry, OnTask, OnDone], Errand]
"""(answer, on_task, on_done) -> its calls on their way through an expert node."""


class AskServer:
    """Accepts every goal, and ends it with an answer or with an error code.

    Args:
        node: on which the action is offered.
        worker: which answers.
        answering: what it does for goals.
        forwarding: what is done for an answer with calls for an expert node, without the worker.
        most_pending: how many goals may wait at this moment.
        report: is told why goals failed; cancelled ones did not.
    """

    def __init__(
        self,
        node: Any,
        worker: Worker[Frame],
        answering: Answering,
        forwarding: Forwarding,
        most_pending: Callable[[], int],
        report: Callable[[BaseException], None],
    ) -> None:
        self._worker = worker
        self._answering = answering
        self._forwarding = forwarding
        self._waiting: deque[tuple[Any, float]] = deque()
        self._errands: dict[bytes, Errand] = {}
        self._most_pending = most_pending
        self._report = report
        self._server = DeferredActionServer(node, Ask, 'ask', self._accepted, self._cancelling)

    def destroy(self) -> None:
        """Take the action back."""
        self._server.destroy()

    def _accepted(self, goal: Any) -> None:
        most = self._most_pending()
        if len(self._waiting) >= most:
            self._server.begin(goal)
            self._fail(
                goal, BusyError(f'{most} questions are waiting already (max_pending_questions)')
            )
            return
        self._waiting.append((goal, time.monotonic()))
        self._worker.submit(self._work).add_done_callback(self._observe)

    def _work(self) -> None:
        """Answer all goals that wait, together; the turns of those taken along find none."""
        goals: list[Any] = []
        asked: list[Asked] = []
        while self._waiting and len(goals) < MOST_TOGETHER:
            goal, accepted = self._waiting.popleft()
            self._server.begin(goal)
            if goal.is_cancel_requested:
                self._fail(goal, Cancelled('the question was cancelled while it waited'))
                continue
            goals.append(goal)
            asked.append(Asked(goal.request, _Feedback(goal, accepted), _stopped(goal)))
        left = dict(enumerate(goals))
        try:
            for place, inquiry in self._answering(asked) if asked else ():
                self._answered(left.pop(place), asked[place].on_text, inquiry)
        except Exception as error:
            for goal in left.values():
                self._fail(goal, error)

    def _answered(self, goal: Any, feedback: Any, inquiry: Inquiry | UnifiedMLLMError) -> None:
        try:
            if not isinstance(inquiry, Inquiry):
                raise inquiry
            results = local_results(inquiry)
            if inquiry.forwarded:
                self._forward(goal, inquiry, results, feedback)
                return
            result = _result(inquiry, results)
        except Exception as error:
            self._fail(goal, error)
            return
        self._server.conclude(goal, goal.succeed, result)

    def _forward(self, goal: Any, inquiry: Inquiry, local: list[Any], feedback: _Feedback) -> None:
        key = bytes(goal.goal_id.uuid)

        def done(results: list[Any] | UnifiedMLLMError) -> None:
            self._errands.pop(key, None)
            if isinstance(results, UnifiedMLLMError):
                self._fail(goal, results)
            else:
                whole = _result(inquiry, [*local, *results])
                self._server.conclude(goal, goal.succeed, whole)

        errand = self._errands[key] = self._forwarding(inquiry, feedback.task, done)
        if errand.ended:
            self._errands.pop(key, None)
        # A cancel that came before the errand was known.
        elif goal.is_cancel_requested:
            self._server.run_later(self._cancelling, goal)

    def _cancelling(self, goal: Any) -> None:
        errand = self._errands.get(bytes(goal.goal_id.uuid))
        if errand is not None:
            errand.stop(Cancelled('the question was cancelled by its client'))

    def _observe(self, job: Future[None]) -> None:
        if not job.cancelled() and (defect := job.exception()) is not None:
            self._report(defect)

    def _fail(self, goal: Any, error: BaseException) -> None:
        cancelled = isinstance(error, Cancelled) and goal.is_cancel_requested
        if not cancelled:
            self._report(error)
        header = goal.request.image.header
        if goal.request.compressed_image.data:
            header = goal.request.compressed_image.header
        result = Ask.Result(
            response=error_response(header, goal.request.instruction, error),
            error_code=error_code(error),
            error_msg=encodable(error_message(error)),
        )
        self._server.conclude(goal, goal.canceled if cancelled else goal.abort, result)


class _Feedback:
    """Sends the prose so far to the client that asked."""

    def __init__(self, goal: Any, accepted: float) -> None:
        self._goal = goal
        self._accepted = accepted
        self._text = ''

    def __call__(self, piece: str) -> None:
        self._text += piece
        elapsed = time.monotonic() - self._accepted
        self._goal.publish_feedback(Ask.Feedback(partial_text=self._text, elapsed_s=elapsed))

    def task(self, task: str, progress: float) -> None:
        """Tell what an expert node is at."""
        self._goal.publish_feedback(
            Ask.Feedback(
                partial_text=self._text,
                elapsed_s=time.monotonic() - self._accepted,
                task=task,
                progress=progress,
            )
        )


def _stopped(goal: Any) -> Cancel:
    return lambda: bool(goal.is_cancel_requested)


def local_results(inquiry: Inquiry) -> list[Any]:
    """Make the TaskResult messages of the calls that were carried out in this process."""
    answer, header = inquiry.answer, inquiry.frame.header
    done = zip(answer.calls, answer.results, strict=True)
    return [
        *(local_task_result(call, result, header) for call, result in done),
        *(failed_task_result(failure.call, failure.error) for failure in answer.failures),
    ]


def _result(inquiry: Inquiry, results: list[Any]) -> Any:
    messages = inquiry.messages
    calls = [task_call_message(call) for call in inquiry.answer.response.calls]
    ordered = sorted(results, key=lambda one: place_of(one.call, calls))
    failed = [one for one in ordered if one.error_code]
    return Ask.Result(
        response=messages.response,
        detections=messages.detections,
        masks=messages.masks,
        label_info=messages.label_info,
        results=ordered,
        error_code=failed[0].error_code if failed else messages.response.error_code,
        error_msg='; '.join(one.error_msg for one in failed) or messages.response.error_msg,
    )
