"""The tables of the runtime's figures, from runtime.json and gpu.json in benchmarks/results."""

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
GPU_FILE = FILE.with_name('gpu.json')


def runtime() -> str:
    """Every row beside its mark."""
    if not FILE.is_file():
        return 'Not measured yet: `scripts/bench runtime` writes the figures.'
    report = json.loads(FILE.read_text(encoding='utf-8'))
    rows = [*_answers(report), *_smollm2(report['smollm2'])]
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
        *_shared(shared),
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


def _shared(report: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = (
        ('ten questions about one frame', 'ten separate runs', report, '4'),
        ('the same', 'one by one, with drafts from frames before', report['in_turn'], ''),
        ('the same without drafts', 'ten separate runs', report['without_drafts'], ''),
    )
    return [
        (
            what,
            f'{found["shared_ms"]["p50"]:.0f} ms',
            against,
            f'{found["separate_ms"]["p50"]:.0f} ms',
            f'{found["speedup_p50"]:.2f}',
            mark,
        )
        for what, against, found, mark in rows
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


def gpu() -> str:
    """Every row of the GPU beside its mark."""
    report = json.loads(GPU_FILE.read_text(encoding='utf-8'))
    decode, race = report['decode'], report['question_to_answer']
    rows = [
        (
            f'{name} in bf16, decode',
            f'{found["decode_tokens_per_second"]:.0f} tokens/s',
            'what copying memory allows',
            f'{found["limit_tokens_per_second"]:.0f} tokens/s',
            f'{found["share_of_limit"]:.2f}',
            '0.7',
        )
        for name, found in decode.items()
    ]
    rows += [
        (
            f'{name} in bf16, decode',
            f'{found["decode_tokens_per_second"]:.0f} tokens/s',
            'itself without its kernels',
            f'{found["decode_without_kernels"]:.0f} tokens/s',
            f'{found["decode_tokens_per_second"] / found["decode_without_kernels"]:.2f}',
            '',
        )
        for name, found in decode.items()
    ]
    sides = {
        'transformers_compiled': ('`generate()`, torch.compile, static cache', '1'),
        'transformers_eager': ('`generate()`, eager torch', ''),
        'onnxruntime-cuda': ('the backend onnxruntime-cuda', ''),
    }
    rows += [
        (
            'tabletop-nano in fp16, question to answer, p50',
            f'{race["ours_ms"]["p50"]:.1f} ms',
            against,
            f'{race[f"{side}_ms"]["p50"]:.1f} ms',
            f'{race["against"][side]["speedup_p50"]:.2f}',
            mark,
        )
        for side, (against, mark) in sides.items()
    ]
    whole = decode['7b']
    computed = whole['weights_bytes'] + whole['cache_bytes']
    memory = f'{whole["memory_bytes"] / 1e9:.1f} GB', f'{computed / 1e9:.1f} GB'
    rows.append(
        ('7b, memory in use', memory[0], 'weights and cache', memory[1],
         f'{whole["memory_ratio"]:.2f}', '1.1')
    )  # fmt: skip
    return table(('what', 'measured', 'against', 'measured', 'ratio', 'mark'), rows)


def gpu_backends() -> str:
    """What ran on the GPU, and what it said instead."""
    report = json.loads(GPU_FILE.read_text(encoding='utf-8'))
    rows = [
        (f'`{name}`', 'runs' if said.startswith('runs') else said)
        for name, said in report['backends'].items()
    ]
    return table(('backend', 'on this GPU'), rows)


def gpu_machine() -> str:
    """The GPU that the figures are from."""
    report = json.loads(GPU_FILE.read_text(encoding='utf-8'))
    about, limits, host = report['gpu'], report['limits'], report['machine']
    return (
        f'{about["name"]} (compute capability {about["capability"]}), a driver for CUDA '
        f'{".".join(map(str, about["driver"]))}; torch {about["torch"]}, triton '
        f'{about["triton"]}, Python {host["python"]}. Copying memory moves '
        f'{limits["copied_bytes_per_second"] / 1e12:.2f} TB/s; the shortest kernel behind another '
        f'takes {limits["kernel_us"]:.2f} us.'
    )
