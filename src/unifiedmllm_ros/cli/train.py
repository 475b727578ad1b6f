"""`unifiedmllm train`: the three stages by a configuration, and the phases of `tabletop-nano`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from unifiedmllm_ros.errors import MissingExtraError

PHASES = ('regions', 'read', 'mask', 'export')
EVERY_PHASE = (*PHASES, 'write')
STAGES = {
    1: 'adapters, and encoders where the configuration says so',
    2: 'adapters and the language model, whole or by LoRA',
    3: 'LoRAMoE: experts and routers, the base frozen',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare stages and presets."""
    presets = parser.add_subparsers(title='what', metavar='WHAT', required=True)
    for stage, what in STAGES.items():
        _add_stage(presets.add_parser(f'stage{stage}', help=what), stage)
    nano = presets.add_parser('tabletop-nano', help='the small model of the simulated table')
    nano.add_argument(
        '--data', type=Path, required=True, help='folder made by `unifiedmllm data tabletop`'
    )
    nano.add_argument('--work', type=Path, required=True, help='folder of checkpoints and caches')
    nano.add_argument('--out', type=Path, default=Path('models'), help='where models are written')
    nano.add_argument(
        '--phases',
        nargs='+',
        choices=EVERY_PHASE,
        default=PHASES,
        help='phases to run, in order; write is for stage 3',
    )
    nano.add_argument(
        '--start', type=Path, help='folder of a trained model to go on from; replaces checkpoints'
    )
    nano.add_argument('--scenes', type=int, help='use the first so many scenes only')
    nano.add_argument('--threads', type=int, default=2, help='CPU threads')
    for phase in PHASES[:-1]:
        nano.add_argument(f'--{phase}-steps', type=int, help=f'steps of the phase {phase}')
    nano.set_defaults(run=run_nano)


def _add_stage(parser: argparse.ArgumentParser, stage: int) -> None:
    parser.description = f'{STAGES[stage]}. docs/training.md lists the fields of a configuration.'
    parser.add_argument(
        '--config',
        type=Path,
        required=True,
        metavar='FILE',
        help='a file, or the name of one in config/training/',
    )
    parser.add_argument('--data-root', type=Path, metavar='DIR', help='where data are')
    parser.add_argument('--out', type=Path, metavar='DIR', help='checkpoints and the result')
    parser.add_argument('--steps', type=int, metavar='N', help='how long')
    parser.add_argument('--resume', action='store_true', help='go on from the newest checkpoint')
    parser.set_defaults(run=run_stage, stage=stage)


def run_stage(args: argparse.Namespace) -> int:
    """Train, print the summary. Status 130 where it was interrupted (a checkpoint is there)."""
    from unifiedmllm_ros.training.settings import PhaseSettings, read_settings

    settings = read_settings(
        args.config, args.stage, data_root=args.data_root, out=args.out, steps=args.steps
    )
    if isinstance(settings, PhaseSettings):
        _run_phase(settings)
        return 0
    try:
        from unifiedmllm_ros.training.stages import described, run
    except ModuleNotFoundError as error:
        raise MissingExtraError.naming(error.name or 'torch', 'train') from error
    summary = run(settings, args.resume)
    if os.environ.get('RANK', '0') == '0':
        print(described(summary))
    return 130 if summary['interrupted'] else 0


def _run_phase(settings) -> None:  # type: ignore[no-untyped-def]
    _pipeline()(
        settings.data_root / settings.data,
        settings.out,
        settings.out,
        (settings.phase,),
        settings.scenes,
        settings.threads,
        {settings.phase: settings.steps},
        settings.begin_from,
    )


def run_nano(args: argparse.Namespace) -> int:
    """Run the phases that were asked for."""
    steps = {phase: getattr(args, f'{phase}_steps') for phase in PHASES[:-1]}
    _pipeline()(
        args.data, args.work, args.out, args.phases, args.scenes, args.threads, steps, args.start
    )
    return 0


def _pipeline():  # type: ignore[no-untyped-def]
    try:
        from unifiedmllm_ros.training.pipeline import run
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'training needs {error.name}; run: pip install "unifiedmllm_ros[train,export]"'
        ) from error
    return run
