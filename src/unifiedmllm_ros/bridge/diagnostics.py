"""The state of a node as diagnostic_msgs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    """Make the DiagnosticArray of one status; see `status_message`.

    stamp: builtin_interfaces/Time of the node's clock.
    """
    return diagnostics_array([status_message(name, hardware_id, level, summary, values)], stamp)


def diagnostics_array(statuses: Iterable[Any], stamp: Any) -> DiagnosticArray:
    """Make the DiagnosticArray of several statuses at one time."""
    message = DiagnosticArray(status=list(statuses))
    message.header.stamp = stamp
    return message


def status_message(
    name: str, hardware_id: str, level: str, summary: str, values: Mapping[str, Any]
) -> DiagnosticStatus:
    """Make one DiagnosticStatus.

    Args:
        name: who reports, with its namespace.
        hardware_id: what it runs, for grouping.
        level: 'ok', 'warn' or 'error'.
        summary: one line for people.
        values: numbers and words by name; floats are written with one decimal.
    """
    return DiagnosticStatus(
        level=LEVELS[level],
        name=name,
        message=encodable(summary),
        hardware_id=hardware_id,
        values=[KeyValue(key=key, value=_written(value)) for key, value in values.items()],
    )


def _written(value: Any) -> str:
    return f'{value:.1f}' if isinstance(value, float) else encodable(str(value))
