"""The parts of docs/adapters.md and docs/tethered.md that come from code and results.

`python -m tests.docs.remote_tables` writes them; the tests check that they are up to date.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tests.docs.figures import result
from tests.docs.tables import Parts, table, write
from unifiedmllm_ros.model.adapters.base import Size
from unifiedmllm_ros.model.adapters.qwen import FACTOR, smart_resize
from unifiedmllm_ros.runtime.catalogue import CATALOGUE
from unifiedmllm_ros.runtime.local.description import LocalDescription, PairDescription
from unifiedmllm_ros.runtime.recommendation import Choice, Machine, recommend
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
    """Each field of a remote description."""
    return _fields(RemoteDescription)


def local_fields() -> str:
    """Each field of a local description."""
    return _fields(LocalDescription)


def pair_fields() -> str:
    """Each field of a pair."""
    return _fields(PairDescription)


def _fields(model: type[BaseModel]) -> str:
    rows = [
        (f'`{name}`', 'needed' if field.is_required() else _default(field), str(field.description))
        for name, field in model.model_fields.items()
    ]
    return table(('field', 'default', 'meaning'), rows)


def catalogue() -> str:
    """Needs of each published model."""
    rows = [
        (
            f'`{one.repository}`',
            f'{one.parameters / 1e9:.2f}',
            f'{one.need(16):.1f}',
            f'{one.need(4):.1f}',
            one.licence,
        )
        for one in CATALOGUE
    ]
    heads = ('model', 'parameters (10^9)', '16 bits (GiB)', '4 bits (GiB)', 'licence')
    return table(heads, rows)


MACHINES = (
    ('GPU of 8 GB (RTX 4060)', Machine(32, 8, bandwidth=272)),
    ('GPU of 12 GB (RTX 4070)', Machine(32, 12, bandwidth=504)),
    ('GPU of 16 GB (RTX 4080)', Machine(32, 16, bandwidth=717)),
    ('GPU of 24 GB (RTX 4090)', Machine(64, 24, bandwidth=1008)),
    ('Jetson Orin NX, 16 GB', Machine(16, 16, unified=True, bandwidth=102)),
    ('Jetson AGX Orin, 64 GB', Machine(64, 64, unified=True, bandwidth=205)),
    ('Jetson AGX Thor, 128 GB', Machine(128, 128, unified=True, bandwidth=273)),
)
"""Memory and its bandwidth (GB/s) as their makers state them."""


def machines() -> str:
    """What is recommended for each."""
    rows = []
    for name, machine in MACHINES:
        found = recommend(machine)
        rows.append((name, f'{machine.budget:.1f}', _choice(found.choice), _choice(found.larger)))
    return table(('machine', 'for the model (GiB)', 'recommended', 'or, larger'), rows)


def _choice(choice: Choice | None) -> str:
    if choice is None:
        return ''
    speed = f', up to {choice.rate:.0f} tokens/s' if choice.rate else ''
    precision = choice.quantisation or choice.dtype
    return f'{choice.model.name}, {precision}: {choice.need:.1f} GiB{speed}'


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return '' if value in ('', {}, None) else f'`{value}`'


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
    'docs/adapters.md': {
        'adapters': adapters,
        'local-fields': local_fields,
        'pair-fields': pair_fields,
        'catalogue': catalogue,
        'machines': machines,
    },
    'docs/tethered.md': {'fields': fields, 'budget': budget, 'speed': speed},
}

if __name__ == '__main__':
    write(PARTS)
