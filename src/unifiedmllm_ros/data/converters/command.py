"""`unifiedmllm data convert`: conversations from a public set on disk."""

from __future__ import annotations

import argparse
from itertools import chain
from pathlib import Path

from unifiedmllm_ros.data.conversation import write_conversations
from unifiedmllm_ros.data.converters.folder import ConversionError
from unifiedmllm_ros.data.converters.registry import PUBLIC_SETS
from unifiedmllm_ros.data.converters.report import Report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.description = (
        'Make conversations of a public set that lies in a folder as its authors publish it. '
        'Media stay where they are. What is left out is counted by reason.'
    )
    parser.add_argument('name', metavar='NAME', choices=PUBLIC_SETS, help=', '.join(PUBLIC_SETS))
    parser.add_argument('--source', type=Path, required=True, metavar='DIR', help='the set')
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='FILE',
        help='JSONL file to write, in DIR or a folder above it, since media are named from there',
    )
    parser.add_argument('--split', help='part of the set (the first that it has, mostly train)')


def run(args: argparse.Namespace) -> int:
    """Convert and print the report. Raises ConversionError where nothing could be made."""
    report = convert(args.name, args.source, args.out, args.split)
    print(report)
    return 0


def convert(name: str, source: Path, out: Path, split: str | None = None) -> Report:
    """Write the conversations of a set; returns what became of its rows.

    Raises ConversionError for a folder that does not hold the set, or where no row of it makes a
    conversation; `out` is written only on success.
    """
    chosen, report = PUBLIC_SETS[name], Report(name)
    folder = chosen.open(source, out.parent, split, report)
    made = chosen.convert(folder)
    first = next(made, None)
    if first is None:
        raise ConversionError(f'nothing could be made of {source}\n{report}')
    write_conversations(out, chain([first], made))
    return report
