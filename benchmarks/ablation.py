"""Ablation on tabletop-nano: full tuning, one LoRA, LoRAMoE without and with balancing.

    python -m benchmarks.ablation --train data/train --test data/test --model models/tabletop-nano

Every method learns tasks that the base has never met (`ablation_tasks`) from the same samples in
the same order, and is measured on them and on what the base knew: forgetting. Nothing but the
language model learns. A method that is done is not done again; one that was interrupted goes on;
other settings need another --work.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks import ablation_tasks
from benchmarks.__main__ import RESULTS
from benchmarks.machine import describe
from unifiedmllm_ros.data.conversation import Conversation, Turn, write_conversations
from unifiedmllm_ros.locations import model_folder
from unifiedmllm_ros.representation import format
from unifiedmllm_ros.tabletop.record import SceneRecord, read_scenes

FEED_FORWARD = ('gate_proj', 'up_proj', 'down_proj')
# As many parameters and as strong a scale for one LoRA as for eight experts of rank 4, which a
# router mixes with shares of an eighth.
LORA = {'r': 32, 'alpha': 32.0, 'targets': FEED_FORWARD}
METHODS: dict[str, tuple[int, float, dict[str, Any]]] = {
    'full': (2, 3e-4, {'language_model': 'full'}),
    'lora': (2, 2e-3, {'language_model': 'lora', 'lora': LORA}),
    'loramoe': (3, 2e-3, {'language_model': 'loramoe', 'loramoe': {'balance_weight': 0.0}}),
    'loramoe_balanced': (3, 2e-3, {'language_model': 'loramoe', 'loramoe': {}}),
}
"""Method -> (stage, learning rate, what learns)."""
KNOWN = (
    'box_accuracy_50',
    'box_accuracy_75',
    'count_exact',
    'yes_no_right',
    'absent_rejected',
    'argument_exact',
    'layout_spatial',
    'captions_right',
)
# What points at things goes to one half of the experts, what is said in words to the other.
HALVES = {'depths': 'first', 'kinds': 'second', 'backwards': 'second'}


def main() -> None:
    """Prepare, train and measure what is missing, and write the table."""
    args = _arguments()
    work: Path = args.work
    files = prepare(args.train, work, args.scenes)
    rows: dict[str, Any] = {'base': _kept(work / 'base', lambda: below(work, args), args)}
    for name in args.methods:
        rows[name] = _kept(work / name, lambda name=name: train(name, files, work, args), args)
    result = {
        'benchmark': 'ablation',
        'model': Path(args.model).name,
        'steps': args.steps,
        'batch': args.batch,
        'train_scenes': args.scenes,
        'test_scenes': args.test_scenes,
        'methods': rows,
        'machine': describe(),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + '\n')
    print(table(rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='python -m benchmarks.ablation', description=__doc__)
    parser.add_argument('--train', type=Path, required=True, help='rendered training scenes')
    parser.add_argument('--test', type=Path, required=True, help='rendered test scenes')
    parser.add_argument('--model', default='tabletop-nano', help='folder or name of the base')
    parser.add_argument('--work', type=Path, default=Path('work/ablation'), help='kept results')
    parser.add_argument('--out', type=Path, default=RESULTS / 'ablation.json')
    parser.add_argument('--steps', type=int, default=300)
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--scenes', type=int, default=3000, help='training scenes')
    parser.add_argument('--test-scenes', type=int, default=150)
    parser.add_argument('--questions', type=int, default=8, help='of a test scene')
    parser.add_argument('--threads', type=int, default=os.cpu_count() or 1)
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=list(METHODS))
    return parser.parse_args()


def prepare(train: Path, work: Path, scenes: int) -> dict[str, Path]:
    """Conversations of the new tasks, one of each about every scene: task -> file.

    They lie beside the pictures, which are named from there.
    """
    files = {task: train / f'ablation-{scenes}.{task}.jsonl' for task in HALVES}
    for task, file in files.items():
        if not file.is_file():
            chosen = islice(read_scenes(train / 'scenes.jsonl'), scenes)
            write_conversations(file, _conversations(task, chosen))
    work.mkdir(parents=True, exist_ok=True)
    return files


def _conversations(task: str, scenes: Iterator[SceneRecord]) -> Iterator[Conversation]:
    for scene in scenes:
        question = ablation_tasks.asked(task, scene, ablation_tasks.TRAIN)
        if question is not None:
            text, answer = question
            turns = Turn(role='user', text=text), Turn(role='assistant', text=format(answer))
            name = f'{task}-{scene.id}'
            yield Conversation(id=name, kind=task, image=scene.image, turns=turns)


def train(name: str, files: dict[str, Path], work: Path, args: argparse.Namespace) -> dict:
    """Train a method; returns what it cost. The model is exported to work/NAME/tested."""
    from unifiedmllm_ros.training.results import load_to_run
    from unifiedmllm_ros.training.settings import StageSettings
    from unifiedmllm_ros.training.stages import run

    stage, rate, trainable = METHODS[name]
    settings = StageSettings.model_validate(
        {
            'stage': stage,
            'model': {'start': str(args.model), 'adapter': False},
            'data': [{'path': f.name, 'experts': HALVES[task]} for task, f in files.items()],
            'data_root': args.train,
            'out': work / name,
            'trainable': trainable,
            'optimiser': {
                'learning_rate': rate,
                'schedule': 'decay_at_end',
                'warmup': 0.05,
                'decay': 0.4,
            },
            'batch': {'size': args.batch, 'per_device': args.batch, 'length': 320},
            'steps': args.steps,
            'cache_regions': True,
            'number_softness': 0.004,
            'saving': {'every': 100, 'keep': 1},
            'threads': args.threads,
        }
    )
    summary = run(settings, resume=True)
    if summary['interrupted']:
        raise SystemExit(f'{name} was interrupted; the same command goes on')
    _export(load_to_run(work / name / 'model'), work / name / 'tested')
    names = ('seconds_per_step', 'tokens_per_second', 'peak_memory_mib', 'parameters_learning')
    return {**{key: summary[key] for key in names}, 'last_loss': summary['last_loss']}


def below(work: Path, args: argparse.Namespace) -> dict:
    """Export what all methods begin with: the model without its stage 3."""
    from unifiedmllm_ros.training.results import load_result

    _export(load_result(model_folder(args.model), adapter=False), work / 'base' / 'tested')
    return {}


def _export(begun: Any, out: Path) -> None:
    """As the runtime takes it; experts and routers stay in the graph."""
    from unifiedmllm_ros.runtime.export import export_model

    begun.processor.save_pretrained(out)
    export_model(begun.model, out.parent.name, out / 'onnx')


def _kept(folder: Path, make: Any, args: argparse.Namespace) -> dict[str, Any]:
    """The row of a method, made where there is none: what it cost and what it can do."""
    file = folder / 'row.json'
    if not file.is_file():
        cost = make()
        row = {**cost, **measured(str(folder / 'tested'), args)}
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(row, indent=2) + '\n')
        shutil.rmtree(folder / 'tested', ignore_errors=True)
    return dict(json.loads(file.read_text()))


def measured(model: str, args: argparse.Namespace) -> dict[str, Any]:
    """The figures of new and of known tasks, by the project's own evaluation."""
    from unifiedmllm_ros.evaluation.tabletop import TabletopTest, evaluate

    test = TabletopTest(args.test, args.test_scenes, args.questions, 'train', dialogues=1)
    report = evaluate(test, model, args.threads)
    return {
        'new': ablation_tasks.measured(model, args.test, args.test_scenes, args.threads),
        'known': {
            **{name: report[name] for name in KNOWN},
            'dialogues_all_right': report['dialogues']['all_right'],
        },
        'task_right': report['task_right'],
        'questions': report['questions'],
    }


def table(rows: dict[str, Any]) -> str:
    """The rows for people."""
    first = next(iter(rows.values()))
    names = [*first['new'], *first['known']]
    lines = [f'{"":<22}' + ' '.join(f'{method:>16}' for method in rows)]
    for name in names:
        values = [{**row['new'], **row['known']}[name] for row in rows.values()]
        shown = ['-' if value is None else f'{value:.3f}' for value in values]
        lines.append(f'{name:<22}' + ' '.join(f'{value:>16}' for value in shown))
    return '\n'.join(lines)


if __name__ == '__main__':
    main()
