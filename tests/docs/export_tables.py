"""The table of the export's figures, from benchmarks/results/export.json."""

from __future__ import annotations

import json
from typing import Any

from tests.docs.tables import ROOT, table

FILE = ROOT / 'benchmarks' / 'results' / 'export.json'


def export() -> str:
    """Every precision beside its mark."""
    if not FILE.is_file():
        return 'Not measured yet: `scripts/bench export` writes the figures.'
    report = json.loads(FILE.read_text(encoding='utf-8'))
    whole = report['torch_measure_points']
    rows = [_row(name, row, whole) for name, row in report['precisions'].items()]
    head = ('graphs', 'answers equal', 'mark', 'equal up to 0.002', 'right, against torch', 'MiB')
    return table(head, rows)


def _row(name: str, row: dict[str, Any], whole: float) -> tuple[str, ...]:
    # Static convolutions are no weight-only precision: the mark of those is not theirs.
    mark = '' if 'vision' in name else f'{row["required"]:.0%}'
    return (
        name,
        f'{row["equal"]:.1%}',
        mark,
        f'{row["near"]:.1%}',
        f'{row["measure_points"] - whole:+.2f} points',
        f'{row["mebibytes"]:.1f}',
    )
