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
        choices=('train', 'test'),
        default='test',
        help='wordings: those held out for testing, or those of training',
    )
    tabletop.add_argument('--seed', type=int, default=0, help='seed of the questions')
    tabletop.add_argument('--threads', type=int, default=2, help='CPU threads')
    tabletop.add_argument('--json', type=Path, help='write the report to this file')
    tabletop.add_argument('--failures', type=Path, help='write wrong answers to this JSONL file')
    tabletop.set_defaults(run=run_tabletop)


def run_tabletop(args: argparse.Namespace) -> int:
    """Evaluate, print the table, write the report."""
    from unifiedmllm_ros.evaluation.tabletop import TabletopTest, evaluate, table

    test = TabletopTest(args.data, args.scenes, args.questions, args.phrasings, args.seed)
    report = evaluate(test, args.model, args.threads, args.failures)
    print(table(report))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=2) + '\n')
    return 0
