"""`unifiedmllm doctor`: what is here, what will run, what would be faster."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare no options."""
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the diagnosis."""
    from unifiedmllm_ros.runtime.doctor import diagnose

    diagnosis = diagnose(recommend=_recommended)
    width = max(len(what) for what, _ in diagnosis.lines)
    for what, finding in diagnosis.lines:
        print(f'{what:<{width}}  {finding}')
    if diagnosis.faster:
        print(f'faster with: {diagnosis.faster}')
    else:
        print('nothing that could be installed here would make it faster')
    return 0


def _recommended(machine: Any) -> Sequence[tuple[str, str]]:
    """Which published model suits the machine."""
    import psutil

    from unifiedmllm_ros.runtime.recommendation import Machine, recommend

    gpu = machine.gpus[0] if machine.gpus else None
    found = recommend(
        Machine(
            memory=psutil.virtual_memory().total / 2**30,
            gpu_memory=gpu.memory / 2**30 if gpu else 0.0,
            unified=bool(gpu and gpu.integrated),
            capability=gpu.capability if gpu else None,
        )
    )
    return [('model', f'{found.name}: {found.reason}')]
