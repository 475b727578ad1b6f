"""The tables of docs/training.md, from benchmarks/results/training.json and ablation.json."""

from __future__ import annotations

import json
from typing import Any

from tests.docs import measures
from tests.docs.tables import ROOT, table

RESULTS = ROOT / 'benchmarks' / 'results'
METHODS = {
    'base': 'the base',
    'full': 'full tuning',
    'lora': 'one LoRA',
    'loramoe': 'LoRAMoE',
    'loramoe_balanced': 'LoRAMoE, balanced',
}
MEASURES = {
    'depths': 'new: everything from near to far, with boxes',
    'kinds': 'new: how many kinds of things',
    'backwards': 'new: what there is, from right to left',
    'box_accuracy_50': 'known: boxes right, Acc@0.5',
    'box_accuracy_75': 'known: boxes right, Acc@0.75',
    'count_exact': 'known: counts exact',
    'yes_no_right': 'known: yes or no right',
    'absent_rejected': 'known: absent things rejected',
    'argument_exact': 'known: arguments, word for word',
    'layout_spatial': 'known: places of layouts',
    'captions_right': 'known: captions',
    'dialogues_all_right': 'known: dialogues of three turns',
}
BOXES = {'box_accuracy_50': 'boxes right, Acc@0.5', 'box_accuracy_75': 'boxes right, Acc@0.75'}
BROUGHT = (
    *BOXES,
    'absent_rejected',
    'count_exact',
    'yes_no_right',
    'task_right',
    'argument_exact',
    'layout_numerical',
    'layout_spatial',
    'captions_right',
    'right',
)
TESTS = {
    'test': 'test',
    'known-wordings': 'known wordings',
    'held-out': 'held-out objects',
}
STAGES = {
    'stage1': '1: adapters',
    'stage2': '2: adapters and language model',
    'stage2_lora': '2: one LoRA',
    'stage3_loramoe': '3: LoRAMoE',
    'stage3_unbalanced': '3: LoRAMoE without balancing',
}


def ablation() -> str:
    """What each method can do, and what it cost."""
    file = RESULTS / 'ablation.json'
    if not file.is_file():
        return 'Not measured yet: `python -m benchmarks.ablation` writes the figures.'
    methods = json.loads(file.read_text(encoding='utf-8'))['methods']
    values = [{**row['new'], **row['known']} for row in methods.values()]
    rows = [(what, *(_share(row[name]) for row in values)) for name, what in MEASURES.items()]
    rows.append(('seconds a step', *(_plain(row, 'seconds_per_step') for row in methods.values())))
    rows.append(
        ('parameters that learn', *(_plain(row, 'parameters_learning') for row in methods.values()))
    )
    return table(('', *(METHODS[name] for name in methods)), rows)


def third_stage() -> str:
    """The model of stages 1 and 2 and the shipped one, on all three tests."""
    reports = {
        heading: json.loads((RESULTS / f'{file}-{test}.json').read_text(encoding='utf-8'))
        for test, what in TESTS.items()
        for file, heading in (('stages-1-2', what), ('tabletop', f'{what}, with stage 3'))
    }
    names = measures.MEASURES | BOXES
    rows = [(names[name], *(_share(each[name]) for each in reports.values())) for name in BROUGHT]
    talks = [each.get('dialogues', {}).get('all_right') for each in reports.values()]
    rows.append(('dialogues of three turns, all right', *map(_share, talks)))
    return table(('', *reports), rows)


def speed() -> str:
    """Speed and memory of the stages of tabletop-nano."""
    file = RESULTS / 'training.json'
    if not file.is_file():
        return 'Not measured yet: `scripts/bench training` writes the figures.'
    report = json.loads(file.read_text(encoding='utf-8'))
    rows = [
        (
            STAGES[name],
            f'{row["tokens_per_second"]:.0f}',
            f'{row["samples_per_second"]:.1f}',
            f'{row["busy"]:.1%}',
            f'{row["peak_memory_mib"]:.0f}',
        )
        for name, row in report['tabletop_nano'].items()
    ]
    cost = report['loramoe_over_lora']
    rows.append(
        (
            'LoRAMoE over one LoRA',
            f'{cost["seconds_per_step"]:.2f} times the time',
            '',
            '',
            f'{cost["peak_memory_mib"]:.2f} times',
        )
    )
    return table(('stage', 'tokens/s', 'samples/s', 'busy', 'peak MiB'), rows)


def _share(value: float | None) -> str:
    return '-' if value is None else f'{value:.3f}'


def _plain(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    return '-' if value is None else f'{value:,}' if isinstance(value, int) else f'{value:.2f}'
