"""The `unifiedmllm` command. Each verb is a module of this package, imported only when used."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from unifiedmllm_ros import __version__
from unifiedmllm_ros.errors import UnifiedMLLMError

VERBS = {
    'ask': 'ask about an image file',
    'data': 'make training and test data',
    'doctor': 'say what is installed, what will run and what would be faster',
    'eval': 'measure a model on a test set',
    'experts': 'list and check the experts',
    'export': 'export a trained model to ONNX or TensorRT',
    'models': 'list and check models',
    'train': 'train a model',
    'up': 'start the perception node',
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    verb = next((word for word in words if not word.startswith('-')), None)
    parser = _parser(verb if verb in VERBS else None)
    parsed = parser.parse_args(words)
    if not hasattr(parsed, 'run'):
        parser.print_help()
        return 2
    try:
        return int(parsed.run(parsed) or 0)
    except UnifiedMLLMError as error:
        print(f'unifiedmllm: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('unifiedmllm: interrupted', file=sys.stderr)
        return 130


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    """Only the chosen verb's module is imported: `--help` and errors stay instant."""
    parser = argparse.ArgumentParser(
        prog='unifiedmllm', description="A multimodal language model as a robot's perception."
    )
    parser.add_argument('--version', action='version', version=__version__)
    verbs = parser.add_subparsers(title='verbs', metavar='VERB')
    for name, summary in VERBS.items():
        verb = verbs.add_parser(name, help=summary, description=summary)
        if name == chosen:
            module = importlib.import_module(f'unifiedmllm_ros.cli.{name}')
            module.add_arguments(verb)
    return parser
