"""The tables of the runtime's figures, from benchmarks/results/runtime.json."""

from __future__ import annotations

import json
from typing import Any

from tests.docs.tables import ROOT, table

PARTS = {
    'encode': 'the encoder',
    'first_pass': 'the pass over all questions',
    'later_passes': 'passes over the answers',
    'rest': 'the rest: pixels, words, grammar, answers',
}
FILE = ROOT / 'benchmarks' / 'results' / 'runtime.json'


def runtime() -> str:
    """Every row beside its mark."""
    if not FILE.is_file():
        return 'Not measured yet: `scripts/bench runtime` writes the figures.'
    report = json.loads(FILE.read_text(encoding='utf-8'))
    rows = [*_answers(report), *_smollm2(report['smollm2']), *_gpu(report['gpu'])]
    return table(('what', 'measured', 'against', 'measured', 'ratio', 'mark'), rows)


def together() -> str:
    """Where the time of ten questions about one frame goes."""
    report = json.loads(FILE.read_text(encoding='utf-8'))['questions_about_one_frame']
    rows = [(PARTS[part], f'{ms:.1f}') for part, ms in report['shared_parts_ms'].items()]
    return table(('part', 'p50 ms'), rows)


def _answers(report: dict[str, Any]) -> list[tuple[str, ...]]:
    shared = report['questions_about_one_frame']
    start = f'{report["start_to_first_answer"]["seconds_p50"]:.2f} s'
    return [
        *_question(report['question_to_answer'], 'question to answer, p50'),
        *_question(
            report['question_to_answer'].get('by_question', {}),
            'the same, in turns question by question',
        ),
        *_question(
            report.get('question_to_answer_fp32', {}),
            'the same, all arithmetic in float32',
        ),
        *_question(report.get('third_stage', {}), 'the same, all arithmetic in float32'),
        (
            'ten questions about one frame',
            f'{shared["shared_ms"]["p50"]:.0f} ms',
            'ten separate runs',
            f'{shared["separate_ms"]["p50"]:.0f} ms',
            f'{shared["speedup_p50"]:.2f}',
            '4',
        ),
        *_cameras(report),
        ('start to first answer, p50', start, '', '', '', '1.5 s'),
    ]


def _question(race: dict[str, Any], what: str) -> list[tuple[str, ...]]:
    sides = {
        'transformers_eager': ('`generate()`, eager torch', '6'),
        'transformers_compiled': ('`generate()`, torch.compile, static cache', '2.5'),
        'ours_without_drafts': ('itself without drafts', ''),
        'without': ('itself without its third stage', ''),
    }
    return [
        (
            what,
            f'{race["ours_ms"]["p50"]:.1f} ms',
            against,
            f'{race[f"{side}_ms"]["p50"]:.1f} ms, {found["equal_answers"]:.0%} equal',
            f'{found["speedup_p50"]:.2f}',
            mark,
        )
        for side, (against, mark) in sides.items()
        if (found := race.get('against', {}).get(side))
    ]


def _cameras(report: dict[str, Any]) -> list[tuple[str, ...]]:
    cameras = report.get('questions_of_several_cameras')  # results of an earlier version lack it
    if cameras is None:
        return []
    return [
        (
            f'one question to each of {cameras["questions"]} cameras',
            f'{cameras["shared_ms"]["p50"]:.0f} ms',
            'one after the other',
            f'{cameras["separate_ms"]["p50"]:.0f} ms',
            f'{cameras["speedup_p50"]:.2f}',
            '',
        )
    ]


def _smollm2(report: dict[str, Any]) -> list[tuple[str, ...]]:
    if 'state' in report:
        return [('SmolLM2-135M', report['state'], 'llama.cpp', '', '', '1')]
    return [
        (
            f'SmolLM2-135M {bits}, {phase}',
            f'{sides["ours_tokens_per_second"][phase]:.1f} tokens/s',
            f'llama.cpp {"Q4_1" if bits == "int4" else "Q8_0"}',
            f'{sides["llama_cpp_tokens_per_second"][phase]:.1f} tokens/s',
            f'{sides[f"{phase}_ratio"]:.2f}',
            '1',
        )
        for bits, sides in report.items()
        for phase in ('decode', 'prefill')
    ]


def _gpu(report: dict[str, str]) -> list[tuple[str, ...]]:
    rows = {
        'GPU: decode tokens/s': ('memory bandwidth', '0.7'),
        'GPU: question to answer': ('torch.compile, vLLM', '1'),
        'GPU memory at 7B': ('weights and cache', '1.1'),
    }
    return [(what, report['state'], other, '', '', mark) for what, (other, mark) in rows.items()]
