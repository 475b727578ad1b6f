"""A lifecycle node whose mistakes are seen, and survived.

rclpy swallows what a transition callback raises, and in Jazzy lets a transition that is not
possible now raise out of its service, which ends the executor.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from unifiedmllm_ros.errors import UnifiedMLLMError

SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE


class TransitionError(UnifiedMLLMError):
    """A transition that is not possible from the present state."""

    code = 'not_active'


class SteadyLifecycleNode(LifecycleNode):
    """Calls `configure`, `activate`, `deactivate`, `cleanup` on transitions.

    What they raise is logged with its traceback and makes the transition fail; the node then is
    where it was before and can be told again.
    """

    def configure(self) -> None:
        """Get ready to work; called from unconfigured."""

    def activate(self) -> None:
        """Start to work; called from inactive."""

    def deactivate(self) -> None:
        """Stop working; called from active."""

    def cleanup(self) -> None:
        """Give back what `configure` took; also called when shut down, and when it failed."""

    def failed(self, error: Exception) -> None:
        """Take note of a transition that failed; it has been logged."""

    @property
    def state_label(self) -> str:
        """Name of the lifecycle state, for example 'inactive'."""
        return str(self._state_machine.current_state[1])

    def start(self) -> bool:
        """Configure and activate; return whether both succeeded."""
        return self.trigger_configure() == SUCCESS and self.trigger_activate() == SUCCESS

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Configure, and clean up what a failure left."""
        result = self._attempt('configure', self.configure)
        if result != SUCCESS:
            self._attempt('cleanup', self.cleanup)
            return result
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Activate the publishers, then the node."""
        if (result := super().on_activate(state)) != SUCCESS:
            return result
        if (result := self._attempt('activate', self.activate)) != SUCCESS:
            super().on_deactivate(state)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Deactivate the node, then its publishers."""
        result = self._attempt('deactivate', self.deactivate)
        super().on_deactivate(state)
        return result

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give back what was taken."""
        super().on_cleanup(state)
        return self._attempt('cleanup', self.cleanup)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and give back, from any state."""
        if state.label == 'active':
            self.on_deactivate(state)
        super().on_shutdown(state)
        self._attempt('cleanup', self.cleanup)
        return SUCCESS

    def _attempt(self, what: str, action: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            action()
        except Exception as error:
            self.get_logger().error(f'cannot {what}: {error}\n{traceback.format_exc()}')
            self.failed(error)
            return FAILURE
        return SUCCESS

    # The service callback of LifecycleNodeMixin, under its mangled name.
    def _LifecycleNodeMixin__on_change_state(self, request: Any, response: Any) -> Any:
        number, label = request.transition.id, request.transition.label
        possible = [entry[:2] for entry in self._state_machine.available_transitions]
        if any(label == name if label else number == known for known, name in possible):
            return super()._LifecycleNodeMixin__on_change_state(request, response)
        error = TransitionError(
            f'transition {label or number} is not possible: the node is {self.state_label}, '
            f'possible are {", ".join(name for _, name in possible) or "none"}'
        )
        self.get_logger().error(str(error))
        self.failed(error)
        response.success = False
        return response
