"""The parts of docs/adapters.md and docs/tethered.md that come from code and results.

`python -m tests.docs.remote_tables` writes them; the tests check that they are up to date.
"""

from __future__ import annotations

from typing import Any

from pydantic.fields import FieldInfo

from tests.docs.figures import result
from tests.docs.tables import Parts, table, write
from unifiedmllm_ros.model.adapters.base import Size
from unifiedmllm_ros.model.adapters.qwen import FACTOR, smart_resize
from unifiedmllm_ros.runtime.remote.description import RemoteDescription

RATES = (0.2, 1.0, 5.0)


def adapters() -> str:
    """Time of each adapter."""
    rows = [
        (f'`{name}`', f'{times["p50"]:.2f}', f'{times["p90"]:.2f}')
        for name, times in result('remote')['adapter_ms'].items()
    ]
    return table(('adapter', 'p50', 'p90'), rows)


def fields() -> str:
    """Each field of a description."""
    rows = [
        (f'`{name}`', 'needed' if field.is_required() else _default(field), str(field.description))
        for name, field in RemoteDescription.model_fields.items()
    ]
    return table(('field', 'default', 'meaning'), rows)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return '' if value in ('', {}) else f'`{value}`'


def budget() -> str:
    """Uplink by size of the image and rate of questions."""
    rows = [_budget_row(int(side), row['85']) for side, row in result('remote')['jpeg_kib'].items()]
    heads = ('`max_side`', 'JPEG (KiB)', *(f'{rate:g}/s' for rate in RATES), 'visual tokens')
    return table(heads, rows)


def _budget_row(side: int, kib: float) -> tuple[str, ...]:
    uplink = (f'{kib * 1024 * 8 * 4 / 3 * rate / 1e6:.2f}' for rate in RATES)
    seen = smart_resize(Size(side, side * 3 // 4))
    tokens = (seen.width // FACTOR) * (seen.height // FACTOR)
    return str(side), f'{kib:.1f}', *uplink, str(tokens)


def speed() -> str:
    """Calls and cameras."""
    measured: dict[str, Any] = result('remote')
    calls, cameras = measured['call_ms'], measured['cameras_ms']
    rows = [
        ('one answer, `http.client` alone', *_times(calls['bare'])),
        ('one answer, through the remote model', *_times(calls['through'])),
        ('16 cameras asking without pause, 50 ms of work', *_times(cameras)),
    ]
    return table(('what', 'p50', 'p99'), rows)


def _times(times: dict[str, float]) -> tuple[str, str]:
    return f'{times["p50"]:.1f}', f'{times["p99"]:.1f}'


PARTS: Parts = {
    'docs/adapters.md': {'adapters': adapters},
    'docs/tethered.md': {'fields': fields, 'budget': budget, 'speed': speed},
}

if __name__ == '__main__':
    write(PARTS)
