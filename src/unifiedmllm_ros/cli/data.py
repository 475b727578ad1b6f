"""`unifiedmllm data`: make training and test data."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sources of data."""
    from unifiedmllm_ros.data import dialogues_command
    from unifiedmllm_ros.data.converters import command as convert
    from unifiedmllm_ros.tabletop import command

    sources = parser.add_subparsers(title='sources', metavar='SOURCE', required=True)
    tabletop = sources.add_parser('tabletop', help='render scenes of the simulated table')
    command.add_arguments(tabletop)
    tabletop.set_defaults(run=command.run)
    public = sources.add_parser('convert', help='conversations from a public data set on disk')
    convert.add_arguments(public)
    public.set_defaults(run=convert.run)
    dialogues_command.add_ground_arguments(
        sources.add_parser('ground', help='boxes in pictures, by an object detector')
    )
    dialogues_command.add_dialogue_arguments(
        sources.add_parser('dialogues', help='dialogues of several turns and tasks')
    )
    _add_pack(sources.add_parser('pack', help='conversations and their media into tar shards'))
    _add_numerical(sources.add_parser('numerical', help='prompts with numbers, and layouts'))
    _add_spatial(sources.add_parser('spatial', help='prompts with places, and layouts'))


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


def _add_spatial(parser: argparse.ArgumentParser) -> None:
    parser.description = 'Write more rows like the spatial training rows of NSR-1K, from these.'
    parser.add_argument(
        '--rows', type=Path, required=True, metavar='FILE', help='those to begin from'
    )
    parser.add_argument('--count', type=int, required=True, metavar='N', help='further rows')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help='for the new ones')
    parser.add_argument('--seed', type=int, default=0, help='another seed, other rows (0)')
    parser.set_defaults(run=_run_spatial)


def _run_spatial(args: argparse.Namespace) -> int:
    from unifiedmllm_ros.data.numerical_layouts import write_rows
    from unifiedmllm_ros.data.spatial_layouts import spatial_rows

    written = write_rows(args.out, spatial_rows(args.rows, args.count, args.seed))
    print(f'{written} rows in {args.out}')
    return 0


def _add_pack(parser: argparse.ArgumentParser) -> None:
    parser.description = 'Pack a JSONL file of conversations with its media into shards.'
    parser.add_argument('--source', type=Path, required=True, metavar='FILE', help='JSONL file')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='for the shards')
    parser.add_argument(
        '--megabytes', type=float, default=256, help='media of one shard, roughly (256)'
    )
    parser.set_defaults(run=_run_pack)


def _run_pack(args: argparse.Namespace) -> int:
    from unifiedmllm_ros.data.conversation import read_conversations
    from unifiedmllm_ros.data.shards import write_shards

    conversations = read_conversations(args.source)
    shards = write_shards(conversations, args.source.parent, args.out, int(args.megabytes * 1e6))
    print(f'{len(shards)} shards in {args.out}')
    return 0
