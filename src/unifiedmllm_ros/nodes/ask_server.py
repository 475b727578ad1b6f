"""The action `ask`: goals are answered by the worker, so no executor thread ever waits for one."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from unifiedmllm_ros.action import Ask
from unifiedmllm_ros.bridge.error_codes import error_code, error_message
from unifiedmllm_ros.bridge.response import error_response
from unifiedmllm_ros.bridge.text import encodable
from unifiedmllm_ros.errors import Cancelled
from unifiedmllm_ros.nodes.deferred import DeferredActionServer
from unifiedmllm_ros.nodes.frame import BusyError, Frame
from unifiedmllm_ros.nodes.inquiry import Inquiry
from unifiedmllm_ros.nodes.worker import Worker

OnText = Callable[[str], None]
Answering = Callable[[Any, OnText, Callable[[], bool]], Inquiry]
"""(goal request, on_text, cancel) -> answer; runs in the worker's thread."""


class AskServer:
    """Accepts every goal, and ends it with an answer or with an error code.

    Args:
        node: on which the action is offered.
        worker: which answers.
        answering: what it does for a goal.
        most_pending: how many goals may wait at this moment.
        report: is told why goals failed; cancelled ones did not.
    """

    def __init__(
        self,
        node: Any,
        worker: Worker[Frame],
        answering: Answering,
        most_pending: Callable[[], int],
        report: Callable[[BaseException], None],
    ) -> None:
        self._worker = worker
        self._answering = answering
        self._most_pending = most_pending
        self._report = report
        self._server = DeferredActionServer(node, Ask, 'ask', self._accepted)

    def destroy(self) -> None:
        """Take the action back."""
        self._server.destroy()

    def _accepted(self, goal: Any) -> None:
        most = self._most_pending()
        if self._worker.pending >= most:
            self._server.begin(goal)
            self._fail(
                goal, BusyError(f'{most} questions are waiting already (max_pending_questions)')
            )
            return
        job = self._worker.submit(partial(self._work, goal, time.monotonic()))
        job.add_done_callback(self._observe)

    def _work(self, goal: Any, accepted: float) -> None:
        self._server.begin(goal)
        try:
            if goal.is_cancel_requested:
                raise Cancelled('the question was cancelled while it waited')
            inquiry = self._answering(
                goal.request, _Feedback(goal, accepted), lambda: goal.is_cancel_requested
            )
            result = _result(inquiry)
        except Exception as error:
            self._fail(goal, error)
            return
        self._server.conclude(goal, goal.succeed, result)

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


def _result(inquiry: Inquiry) -> Any:
    messages = inquiry.messages
    return Ask.Result(
        response=messages.response,
        detections=messages.detections,
        masks=messages.masks,
        label_info=messages.label_info,
        error_code=messages.response.error_code,
        error_msg=messages.response.error_msg,
    )
