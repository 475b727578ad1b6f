"""`unifiedmllm train`: the phases that make the shipped models."""

from __future__ import annotations

import argparse
from pathlib import Path

PHASES = ('regions', 'read', 'mask', 'export')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the presets."""
    presets = parser.add_subparsers(title='presets', metavar='PRESET', required=True)
    nano = presets.add_parser('tabletop-nano', help='the small model of the simulated table')
    nano.add_argument(
        '--data', type=Path, required=True, help='folder made by `unifiedmllm data tabletop`'
    )
    nano.add_argument('--work', type=Path, required=True, help='folder of checkpoints and caches')
    nano.add_argument('--out', type=Path, default=Path('models'), help='where models are written')
    nano.add_argument(
        '--phases', nargs='+', choices=PHASES, default=PHASES, help='phases to run, in order'
    )
    nano.add_argument(
        '--start', type=Path, help='folder of a trained model to go on from; replaces checkpoints'
    )
    nano.add_argument('--scenes', type=int, help='use the first so many scenes only')
    nano.add_argument('--threads', type=int, default=2, help='CPU threads')
    for phase in PHASES[:-1]:
        nano.add_argument(f'--{phase}-steps', type=int, help=f'steps of the phase {phase}')
    nano.set_defaults(run=run_nano)


def run_nano(args: argparse.Namespace) -> int:
    """Run the phases that were asked for."""
    try:
        from unifiedmllm_ros.training.pipeline import run
    except ModuleNotFoundError as error:
        from unifiedmllm_ros.errors import MissingExtraError

        raise MissingExtraError(
            f'training needs {error.name}; run: pip install "unifiedmllm_ros[train,export]"'
        ) from error
    steps = {phase: getattr(args, f'{phase}_steps') for phase in PHASES[:-1]}
    run(args.data, args.work, args.out, args.phases, args.scenes, args.threads, steps, args.start)
    return 0
