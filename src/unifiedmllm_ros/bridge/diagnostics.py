"""The state of a node as diagnostic_msgs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from unifiedmllm_ros.bridge.text import encodable

LEVELS = {
    'ok': DiagnosticStatus.OK,
    'warn': DiagnosticStatus.WARN,
    'error': DiagnosticStatus.ERROR,
}


def diagnostics_message(
    name: str, hardware_id: str, level: str, summary: str, values: Mapping[str, Any], stamp: Any
) -> DiagnosticArray:
    """Make the DiagnosticArray of one status.

    Args:
        name: who reports, with its namespace.
        hardware_id: what it runs, for grouping.
        level: 'ok', 'warn' or 'error'.
        summary: one line for people.
        values: numbers and words by name; floats are written with one decimal.
        stamp: builtin_interfaces/Time of the node's clock.
    """
    status = DiagnosticStatus(
        level=LEVELS[level],
        name=name,
        message=encodable(summary),
        hardware_id=hardware_id,
        values=[KeyValue(key=key, value=_written(value)) for key, value in values.items()],
    )
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp
    return message


def _written(value: Any) -> str:
    return f'{value:.1f}' if isinstance(value, float) else encodable(str(value))
