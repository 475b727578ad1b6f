"""`unifiedmllm up`: start the perception node and let it run."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; everything else is in the parameter file."""
    parser.add_argument('--model', help='name or folder of the model')
    parser.add_argument('--params-file', type=Path, help='parameters of the node (YAML)')
    parser.add_argument('--namespace', help='namespace of the node')
    parser.add_argument('--image', help='topic of the images, for example /camera/image')
    parser.add_argument('--compressed', action='store_true', help='take compressed images')
    parser.add_argument('--instruction', help='standing instruction, asked of every image')
    parser.set_defaults(run=run)


def ros_arguments(args: argparse.Namespace) -> list[str]:
    """The options as arguments of a ROS program."""
    words = ['--ros-args', '-p', 'autostart:=true']
    if args.params_file:
        words += ['--params-file', str(args.params_file)]
    if args.namespace:
        words += ['-r', f'__ns:=/{args.namespace.strip("/")}']
    if args.image:
        words += ['-r', f'image:={args.image}', '-r', f'image/compressed:={args.image}/compressed']
    parameters = {
        'model': args.model,
        'instruction': args.instruction,
        'input': 'compressed' if args.compressed else None,
    }
    for name, value in parameters.items():
        if value is not None:
            words += ['-p', f'{name}:="{_quoted(value)}"']
    return words


def run(args: argparse.Namespace) -> int:
    """Run the node until it is stopped."""
    try:
        import rclpy  # noqa: F401
    except ModuleNotFoundError as error:
        from unifiedmllm_ros.errors import MissingExtraError

        raise MissingExtraError(
            f'{error.name} is missing: source a ROS 2 set-up, or run scripts/setup demo and '
            'source scripts/env'
        ) from error
    from unifiedmllm_ros.nodes.perception_node import main

    return main(['unifiedmllm', *ros_arguments(args)])


def _quoted(value: str) -> str:
    # Parameter overrides are YAML: inside double quotes only these two need escaping.
    return value.replace('\\', '\\\\').replace('"', '\\"')
