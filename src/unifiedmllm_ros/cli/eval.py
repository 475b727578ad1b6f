"""`unifiedmllm eval`: measure a model."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmarks."""
    benchmarks = parser.add_subparsers(title='benchmarks', metavar='BENCHMARK', required=True)
    tabletop = benchmarks.add_parser('tabletop', help='the test scenes of the simulated table')
    tabletop.add_argument(
        '--data', type=Path, required=True, help='folder made by `unifiedmllm data tabletop`'
    )
    tabletop.add_argument('--model', default='tabletop-nano', help='name or folder of the model')
    tabletop.add_argument('--scenes', type=int, help='use the first so many scenes only')
    tabletop.add_argument('--questions', type=int, default=12, help='questions per scene')
    tabletop.add_argument(
        '--phrasings',
        choices=('train', 'test', 'both'),
        default='test',
        help='wordings: those held out for testing, those of training, or both in one report',
    )
    tabletop.add_argument(
        '--dialogues', type=int, default=0, help='dialogues of three turns per scene (0)'
    )
    tabletop.add_argument('--seed', type=int, default=0, help='seed of the questions')
    tabletop.add_argument('--threads', type=int, default=2, help='CPU threads')
    tabletop.add_argument('--json', type=Path, help='write the report to this file')
    tabletop.add_argument('--failures', type=Path, help='write wrong answers to this JSONL file')
    tabletop.set_defaults(run=run_tabletop)
    _add_nsr1k(benchmarks.add_parser('nsr1k', help='layouts from sentences, as NSR-1K scores them'))


def _add_nsr1k(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--data', type=Path, required=True, help='folder with spatial.SPLIT.json, numerical...'
    )
    scored = parser.add_mutually_exclusive_group(required=True)
    scored.add_argument('--predictions', type=Path, help='JSONL of layouts, see docs/data.md')
    scored.add_argument('--model', help='name or folder of the model that lays them out')
    scored.add_argument(
        '--truth', action='store_true', help='score the ground truth itself: the ceiling'
    )
    parser.add_argument('--split', default='val', help='which prompts (val)')
    parser.add_argument('--json', type=Path, help='write the report to this file')
    parser.add_argument('--out', type=Path, help="write the model's layouts to this JSONL file")
    parser.add_argument('--limit', type=int, help='the first so many prompts of each part')
    parser.add_argument('--threads', type=int, default=2, help='CPU threads')
    parser.set_defaults(run=run_nsr1k)


def run_nsr1k(args: argparse.Namespace) -> int:
    """Score layouts, print the means, write the report."""
    from unifiedmllm_ros.evaluation import nsr1k_benchmark as benchmark

    prompts = benchmark.read_prompts(args.data, args.split)
    if args.limit is not None:
        prompts = benchmark.Prompts(prompts.spatial[: args.limit], prompts.numerical[: args.limit])
    if args.model:
        from unifiedmllm_ros.evaluation.layouts import lay_out_all
        from unifiedmllm_ros.locations import model_folder

        samples = lay_out_all(model_folder(args.model), prompts, args.threads, args.out)
    elif args.truth:
        samples = prompts.truth()
    else:
        samples = benchmark.read_predictions(args.predictions, prompts)
    report = benchmark.evaluate(prompts, samples)
    print(benchmark.table(report))
    if args.json:
        benchmark.write(report, args.json)
    return 0


def run_tabletop(args: argparse.Namespace) -> int:
    """Evaluate, print the table, write the report."""
    from unifiedmllm_ros.evaluation.tabletop import TabletopTest, evaluate, table

    test = TabletopTest(args.data, args.scenes, args.questions, args.phrasings, args.seed,
                        args.dialogues)  # fmt: skip
    report = evaluate(test, args.model, args.threads, args.failures)
    print(table(report))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=2) + '\n')
    return 0
