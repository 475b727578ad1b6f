"""What tests let processes of their own do: train and be killed, train as one of several.

A server that has imported everything once makes them (`context`): importing takes seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.context import ForkServerContext
from typing import Any

from unifiedmllm_ros.training import stages
from unifiedmllm_ros.training.settings import StageSettings


def context() -> ForkServerContext:
    made = multiprocessing.get_context('forkserver')
    made.set_forkserver_preload(['tests.training.children'])
    return made


def train_and_be_killed(values: dict[str, Any], step: int) -> None:
    """SIGKILL, which nothing can catch, after a step."""

    class Killing(stages.Interruption):
        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
            if state.global_step == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().on_step_end(args, state, control, **more)

    stages.Interruption = Killing  # type: ignore[misc]
    stages.run(StageSettings.model_validate(values))


def train_as(values: dict[str, Any], rank: int, world: int, port: int) -> None:
    """As a launcher would start it."""
    place = {'RANK': rank, 'LOCAL_RANK': rank, 'WORLD_SIZE': world, 'LOCAL_WORLD_SIZE': world}
    os.environ.update({name: str(value) for name, value in place.items()})
    os.environ.update({'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port)})
    os.environ['ACCELERATE_USE_CPU'] = 'true'
    stages.run(StageSettings.model_validate(values))
