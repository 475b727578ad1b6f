"""`unifiedmllm models`: which models there are, and whether one can answer."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verbs and options."""
    verbs = parser.add_subparsers(dest='action', required=True, metavar='ACTION')
    listing = verbs.add_parser('list', help='list models, descriptions and adapters')
    listing.set_defaults(run=run_list)
    checking = verbs.add_parser('check', help='load a model, or ask its server for it')
    checking.add_argument('model', help='name, folder, or description (.yaml, .json)')
    checking.add_argument('--threads', type=int, default=2, help='CPU threads')
    checking.set_defaults(run=run_check)


def run_list(args: argparse.Namespace) -> int:
    """Print what `--model` takes."""
    from unifiedmllm_ros.model.adapters.registry import ADAPTERS, DETECTORS
    from unifiedmllm_ros.runtime.loading import available

    for name, kind in available():
        print(f'{name:<28} {kind}')
    print(f'representations of remote models: {", ".join(ADAPTERS)}')
    print(f'adapters of detectors (for Python programs): {", ".join(DETECTORS)}')
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Load the model, or find it on its server; with a fallback, both."""
    from unifiedmllm_ros.runtime.loading import description_file, load_model
    from unifiedmllm_ros.runtime.remote.description import read_description
    from unifiedmllm_ros.runtime.remote.model import RemoteModel

    path = description_file(args.model)
    if path is None:
        info = load_model(args.model, threads=args.threads).info
        print(f'{info.name}: {info.backend}, {info.precision}, {info.device}')
        return 0
    description = read_description(path)
    description.api_key()
    if description.fallback:
        info = load_model(description.fallback, threads=args.threads).info
        print(f'fallback {info.name}: {info.backend}, {info.precision}, {info.device}')
    name = RemoteModel(description).check()
    print(f'{name}: served at {description.url}, answers as {description.representation}')
    return 0
