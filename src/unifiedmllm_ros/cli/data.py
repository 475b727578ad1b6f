"""`unifiedmllm data`: make training and test data."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sources of data."""
    from unifiedmllm_ros.data.converters import command as convert
    from unifiedmllm_ros.tabletop import command

    sources = parser.add_subparsers(title='sources', metavar='SOURCE', required=True)
    tabletop = sources.add_parser('tabletop', help='render scenes of the simulated table')
    command.add_arguments(tabletop)
    tabletop.set_defaults(run=command.run)
    public = sources.add_parser('convert', help='conversations from a public data set on disk')
    convert.add_arguments(public)
    public.set_defaults(run=convert.run)
    _add_numerical(sources.add_parser('numerical', help='prompts with numbers, and layouts'))


def _add_numerical(parser: argparse.ArgumentParser) -> None:
    parser.description = 'Write training rows like the numerical prompts of NSR-1K.'
    parser.add_argument('--count', type=int, required=True, metavar='N', help='rows')
    parser.add_argument(
        '--out', type=Path, required=True, metavar='FILE', help='as numerical.train.json'
    )
    parser.add_argument(
        '--shapes',
        type=Path,
        metavar='FILE',
        help='spatial.train.json, to draw shapes of boxes from',
    )
    parser.add_argument('--seed', type=int, default=0, help='another seed, other rows (0)')
    parser.set_defaults(run=_run_numerical)


def _run_numerical(args: argparse.Namespace) -> int:
    from unifiedmllm_ros.data.numerical_layouts import numerical_rows, read_shapes, write_rows

    shapes = read_shapes(args.shapes) if args.shapes else None
    written = write_rows(args.out, numerical_rows(args.count, args.seed, shapes))
    print(f'{written} rows in {args.out}')
    return 0
