"""Runs that are killed, interrupted, or shared by processes come to the same losses."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')
pytest.importorskip('accelerate', reason='needs the extra [train]')

from tests.training import children  # noqa: E402
from tests.training.stage_world import (  # noqa: E402
    losses_in,
    media_of,
    stage,
    write_conversations_of_all_media,
    write_twin,
)
from unifiedmllm_ros.errors import ConfigError  # noqa: E402
from unifiedmllm_ros.training.samples import Samples  # noqa: E402
from unifiedmllm_ros.training.settings import StageSettings  # noqa: E402
from unifiedmllm_ros.training.stages import run  # noqa: E402

MOE = {'language_model': 'loramoe', 'loramoe': {'dropout': 0.2}, 'parts': ['adapters']}


@pytest.fixture(scope='module')
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp('world')
    twin = write_twin('smol-135m', folder / 'twin')
    return twin, write_conversations_of_all_media(folder / 'data', 12, media_of('smol-135m'))


def six_steps(world: tuple[Path, Path], out: Path, **changes: Any) -> StageSettings:
    options = {'trainable': MOE, 'steps': 6, 'saving': {'every': 3, 'keep': 2}}
    return stage(3, *world, out, **{**options, **changes})


def test_killed_and_resumed(world: tuple[Path, Path], tmp_path: Path) -> None:
    """Dropout, sampling, schedule and optimiser go on where the checkpoint left them."""
    whole, parts = six_steps(world, tmp_path / 'whole'), six_steps(world, tmp_path / 'parts')
    child = children.context().Process(
        target=children.train_and_be_killed, args=(parts.model_dump(), 5)
    )
    child.start()
    run(whole)
    child.join(100)
    assert child.exitcode == -signal.SIGKILL
    assert [folder.name for folder in parts.out.glob('checkpoint-*')] == ['checkpoint-3']
    with pytest.raises(ConfigError, match='--resume'):
        run(parts)
    summary = run(parts, resume=True)
    assert summary['steps'] == 6
    assert len(losses_in(whole.out)) == 6
    assert losses_in(parts.out) == losses_in(whole.out)
    assert [f.read_bytes() for f in sorted((parts.out / 'model').glob('adapter_model*'))] == [
        f.read_bytes() for f in sorted((whole.out / 'model').glob('adapter_model*'))
    ]


def test_interrupted_with_a_checkpoint(
    world: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, read = six_steps(world, tmp_path / 'out'), Samples.__getitem__
    before = signal.getsignal(signal.SIGINT)

    def interrupting(self: Samples, index: int) -> Any:
        if index == 8:  # of the third step
            os.kill(os.getpid(), signal.SIGINT)
        return read(self, index)

    monkeypatch.setattr(Samples, '__getitem__', interrupting)
    summary = run(settings)
    assert summary['interrupted']
    assert 1 <= summary['steps'] <= 3
    assert (settings.out / f'checkpoint-{summary["steps"]}' / 'trainer_state.json').is_file()
    assert (settings.out / 'model' / 'adapter_model.safetensors').is_file()
    monkeypatch.undo()
    summary = run(settings, resume=True)
    assert (summary['steps'], summary['interrupted']) == (6, False)
    assert signal.getsignal(signal.SIGINT) is before


def test_two_processes_as_one(world: tuple[Path, Path], tmp_path: Path) -> None:
    """Over gloo, with media that only one of the two has in a step."""
    trainable = {'parts': ['adapters', 'image_encoder', 'audio_encoder'], 'language_model': 'full'}
    both, one = (stage(2, *world, tmp_path / name, trainable=trainable) for name in ('both', 'one'))
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        port = found.getsockname()[1]
    processes = [
        children.context().Process(
            target=children.train_as, args=(both.model_dump(), rank, 2, port)
        )
        for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    run(one)
    for process in processes:
        process.join(100)
    assert [process.exitcode for process in processes] == [0, 0]
    assert losses_in(both.out) == pytest.approx(losses_in(one.out), abs=1e-4)
