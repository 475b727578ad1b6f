"""`unifiedmllm data`: make training and test data."""

from __future__ import annotations

import argparse


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
