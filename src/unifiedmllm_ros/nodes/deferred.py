"""Actions and services that are answered later, from another thread.

No thread of the executor waits for an answer, and nothing polls: awaiting a future in a callback
of rclpy keeps its executor spinning.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from action_msgs.msg import GoalStatus
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import RCLError

# How long an ended goal is kept for clients that did not ask for its result before, as in rcl. All
# its images are kept as long: rclpy's quarter of an hour would be gigabytes.
_RESULT_SECONDS = 10


class DeferredActionServer(ActionServer):
    """Accepts every goal and every cancel; goals end when `conclude` says so, from any thread.

    `goal.execute()` only marks a goal as executing.

    Args:
        node: on which the action is offered.
        kind: the action's type.
        name: relative to the node's namespace.
        accepted: is called with each goal handle, in the executor's thread.
        cancelling: is called, in the executor's thread, once a goal is asked to stop.
    """

    def __init__(
        self,
        node: Any,
        kind: Any,
        name: str,
        accepted: Callable[[Any], None],
        cancelling: Callable[[Any], None] | None = None,
    ) -> None:
        self._executing_node = node
        self._cancelling = cancelling
        super().__init__(
            node,
            kind,
            name,
            execute_callback=_unused,
            goal_callback=lambda request: GoalResponse.ACCEPT,
            cancel_callback=self._cancel_asked,
            handle_accepted_callback=accepted,
            result_timeout=_RESULT_SECONDS,
        )

    def notify_execute(self, goal_handle: Any, execute_callback: Any) -> None:
        """Run a callback that ends the goal; without one do nothing."""
        if execute_callback is not None:
            super().notify_execute(goal_handle, execute_callback)

    def begin(self, goal: Any) -> None:
        """Mark a goal as executing, unless it is already, or was asked to stop before."""
        if goal.status != GoalStatus.STATUS_ACCEPTED:
            return
        try:
            goal.execute()
        except RCLError:  # a cancel came between the look at the state and its change
            if not goal.is_cancel_requested:
                raise

    def conclude(self, goal: Any, transition: Callable[[], None], result: Any) -> None:
        """End a goal with `goal.succeed`, `goal.abort` or `goal.canceled`, and a result."""

        def finish(_: Any) -> Any:
            transition()
            return result

        self.notify_execute(goal, finish)

    def run_later(self, what: Callable[..., None], *arguments: Any) -> None:
        """Run something in the executor's thread, after the present callback."""
        self._executing_node.executor.create_task(what, *arguments)

    def _cancel_asked(self, goal: Any) -> CancelResponse:
        if self._cancelling is not None:
            # The goal is in the state `canceling` only after this callback.
            self.run_later(self._cancelling, goal)
        return CancelResponse.ACCEPT


class DeferredService:
    """A service whose requests are answered when their `Reply` is sent, from any thread.

    Args:
        node: on which the service is offered.
        kind: the service's type.
        name: relative to the node's namespace.
        asked: is called with the request and its `Reply`, in the executor's thread.
    """

    def __init__(
        self, node: Any, kind: Any, name: str, asked: Callable[[Any, Reply], None]
    ) -> None:
        self._node = node
        self._asked = asked
        self._service = node.create_service(kind, name, _both)
        self._send = self._service.send_response
        # The executor hands what the callback returned, and whom it is for, to this method.
        self._service.send_response = self._received

    def destroy(self) -> None:
        """Take the service back."""
        self._node.destroy_service(self._service)

    def _received(self, pair: tuple[Any, Any], header: Any) -> None:
        request, response = pair
        self._asked(request, Reply(response, lambda: self._send(response, header)))


class Reply:
    """The response to one request; sent once, and to nobody where its client has gone."""

    def __init__(self, response: Any, send: Callable[[], None]) -> None:
        self.response = response
        self._send: Callable[[], None] | None = send
        self._lock = threading.Lock()

    def send(self) -> None:
        """Send the response."""
        with self._lock:
            send, self._send = self._send, None
        if send is not None:
            send()


def _both(request: Any, response: Any) -> tuple[Any, Any]:
    return request, response


def _unused(goal: Any) -> Any:
    raise AssertionError('goals are ended through conclude')
