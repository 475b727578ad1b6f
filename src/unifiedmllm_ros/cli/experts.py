"""`unifiedmllm experts`: what the router can call, and whether it would work."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verbs."""
    parser.add_argument('--config', type=Path, help="experts.yaml (default: the package's own)")
    verbs = parser.add_subparsers(title='verbs', metavar='VERB', required=True)
    listing = verbs.add_parser('list', help='experts, their tasks, memory and licence')
    listing.set_defaults(run=run_list)
    check = verbs.add_parser('check', help='load each expert that a task is bound to')
    check.set_defaults(run=run_check)


def run_list(args: argparse.Namespace) -> int:
    """Print one line for each expert."""
    from unifiedmllm_ros.experts.registry import ExpertRegistry

    for status in ExpertRegistry.from_file(args.config).list():
        tasks = ', '.join(status.tasks) or '-'
        print(
            f'{status.name:<16} {tasks:<8} {status.kind:<20} {status.state:<12} '
            f'{status.memory_mib:>6.0f} MiB  {status.licence}'
        )
        if status.reason:
            print(f'    {status.reason}')
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Load what tasks are bound to; the status is 1 where one fails."""
    from unifiedmllm_ros.errors import UnifiedMLLMError
    from unifiedmllm_ros.experts.registry import ExpertRegistry

    registry = ExpertRegistry.from_file(args.config)
    failed = 0
    for status in registry.list():
        for task in status.tasks:
            try:
                registry.expert(task)
                print(f'{task}: {status.name} is ready')
            except UnifiedMLLMError as error:
                failed += 1
                print(f'{task}: {status.name}: {error}')
    registry.close()
    return 1 if failed else 0
