"""The figures of README.md and docs/benchmarks.md, from the committed results.

`python -m tests.docs.figures` writes them; the tests check that they are up to date.
"""

from __future__ import annotations

import json
from typing import Any

from tests.docs.export_tables import export
from tests.docs.measures import MEASURES
from tests.docs.runtime_tables import gpu as gpu_rows
from tests.docs.runtime_tables import gpu_backends, gpu_machine, runtime, together
from tests.docs.tables import ROOT, Parts, table, write
from tests.docs.training_tables import ablation, third_stage
from tests.docs.training_tables import speed as training_speed

RESULTS = ROOT / 'benchmarks' / 'results'
KINDS = {
    'name': 'by name',
    'colour': 'by colour and kind',
    'relation': 'by relation',
    'order': 'by order',
    'superlative': 'by superlative',
    'use': 'by use',
    'several': 'several instances',
}


def result(name: str) -> dict[str, Any]:
    """A committed result."""
    return json.loads((RESULTS / f'{name}.json').read_text(encoding='utf-8'))


def quality() -> str:
    """The headline figures of the test split beside their marks."""
    test, sample = result('tabletop-test'), result('perception')
    eager, node, gpu = result('transformers_eager'), result('node'), result('gpu')
    overhead, memory = node['overhead'], node['memory']['resident_mib']
    total = sample['total_ms']
    rows = [
        ('boxes right, Acc@0.5', _share(test['box_accuracy_50']), '0.92'),
        ('boxes right, Acc@0.75', _share(test['box_accuracy_75']), '0.75'),
        ('masks, cIoU', _share(test['mask_ciou']), '0.70'),
        ('absent things rejected', _share(test['absent_rejected']), '0.90'),
        ('counts exact', _share(test['count_exact']), '0.85'),
        ('task tokens right, all tasks', _share(test['task_right']), '0.98'),
        ('argument of a call, word for word', _share(test['argument_exact']), ''),
        ('layouts from sentences, numerical / spatial',
         f'{_share(test["layout_numerical"])} / {_share(test["layout_spatial"])}', '0.85 / 0.85'),
        ('dialogues of three turns, all right', _share(test['dialogues']['all_right']), '0.75'),
        ('answers that parse', _share(test['parses']), '1'),
        ('question to masks, 640x480, p50 / p99', f'{total["p50"]:.0f} / {total["p99"]:.0f} ms',
         '250 / 500 ms'),
        ('against `generate()` of transformers', f'{eager["speedup_p50"]:.1f} times faster',
         '6 times'),
        ('node overhead, raw / compressed, p50',
         f'{overhead["raw"]["total_ms"]["p50"]:.1f} / '
         f'{overhead["compressed"]["total_ms"]["p50"]:.1f} ms', '4 / 8 ms'),
        ('memory of the node, peak', f'{memory["peak"]:.0f} MiB', '500 MiB'),
        (f'{gpu["gpu"]["name"]}: question to answer against compiled `generate()`',
         f'{gpu["question_to_answer"]["speedup_p50"]:.1f} times faster', 'faster'),
        (f'{gpu["gpu"]["name"]}: 7B in bf16, decoding over what the memory allows',
         f'{gpu["decode"]["7b"]["share_of_limit"]:.2f}', '0.7'),
    ]  # fmt: skip
    return table(('figure', 'measured', 'mark'), rows)


def kinds() -> str:
    """Acc@0.5 by kind of expression: held-out wordings, known ones, held-out objects."""
    columns = ('tabletop-test', 'tabletop-known-wordings', 'tabletop-held-out')
    reports = [result(name) for name in columns]
    rows = [
        (what, *(_share(report['kinds'][kind]['acc50']) for report in reports))
        for kind, what in KINDS.items()
    ]
    for name, what in MEASURES.items():
        rows.append((what, *(_share(report[name]) for report in reports)))
    return table(('', 'test', 'test scenes, known wordings', 'scenes with held-out objects'), rows)


def tests() -> str:
    """How large the tests were."""
    rows = []
    for name in ('tabletop-test', 'tabletop-known-wordings', 'tabletop-held-out'):
        report = result(name)
        rows.append((f'`{name}`', str(report['test']['scenes']), str(report['questions'])))
    return table(('result', 'scenes', 'questions'), rows)


def speed() -> str:
    """Latency by stage on the sample's frames."""
    report = result('perception')
    rows = [
        (stage, *(f'{times[p]:.1f}' for p in ('p50', 'p90', 'p99')))
        for stage, times in {**report['stages_ms'], 'all': report['total_ms']}.items()
    ]
    return table(('stage', 'p50 ms', 'p90 ms', 'p99 ms'), rows)


def machine() -> str:
    """The machine that the figures are from."""
    about = result('perception')['machine']
    packages = ', '.join(f'{k} {v}' for k, v in about['packages'].items() if v)
    return (
        f'{about["processor"]}, {about["cores"]} cores, {about["memory_gib"]} GiB, '
        f'{about["system"]}, Python {about["python"]}; {packages}.'
    )


def _share(value: float | None) -> str:
    return '-' if value is None else f'{value:.3f}'


FIGURES: Parts = {
    'README.md': {'figures': quality},
    'docs/benchmarks.md': {
        'figures': quality,
        'kinds': kinds,
        'tests': tests,
        'speed': speed,
        'runtime': runtime,
        'together': together,
        'gpu': gpu_rows,
        'gpu-machine': gpu_machine,
        'gpu-backends': gpu_backends,
        'export': export,
        'machine': machine,
    },
    'docs/training.md': {
        'ablation': ablation,
        'third-stage': third_stage,
        'training-speed': training_speed,
    },
    'models/tabletop-nano/README.md': {'kinds': kinds},
}

if __name__ == '__main__':
    write(FIGURES)
