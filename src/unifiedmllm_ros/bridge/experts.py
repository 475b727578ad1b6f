"""An expert of the registry as a message."""

from __future__ import annotations

from unifiedmllm_ros import msg
from unifiedmllm_ros.bridge.text import encodable
from unifiedmllm_ros.experts.registry import ExpertStatus

_STATES = {
    'unavailable': msg.ExpertState.NOT_INSTALLED,
    'available': msg.ExpertState.AVAILABLE,
    'loaded': msg.ExpertState.LOADED,
    'busy': msg.ExpertState.BUSY,
}


def expert_state_message(status: ExpertStatus) -> msg.ExpertState:
    """Make the message of an expert."""
    return msg.ExpertState(
        name=status.name,
        tasks=list(status.tasks),
        state=_STATES[status.state],
        weights=status.weights,
        licence=status.licence,
        memory_mib=float(status.memory_mib),
        detail=encodable(status.reason),
    )
