"""Learning from a teacher: its distribution over each next token is the target."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')
pytest.importorskip('accelerate', reason='needs the extra [train]')

from tests.training.stage_world import (  # noqa: E402
    media_of,
    stage,
    write_conversations_of_all_media,
    write_twin,
)
from unifiedmllm_ros.errors import ConfigError  # noqa: E402
from unifiedmllm_ros.training.loss import distillation_loss  # noqa: E402
from unifiedmllm_ros.training.stages import run  # noqa: E402


def test_the_loss_is_the_divergence_from_the_teacher() -> None:
    said, meant = torch.randn(2, 5, 7)
    said.requires_grad_()
    goal = torch.softmax(meant, -1)
    expected = (goal * (goal.log() - torch.log_softmax(said, -1))).sum()
    torch.testing.assert_close(distillation_loss(said, meant), expected)
    (gradient,) = torch.autograd.grad(distillation_loss(said, meant), said)
    torch.testing.assert_close(gradient, torch.softmax(said, -1).detach() - goal)
    assert float(distillation_loss(meant, meant)) == pytest.approx(0, abs=1e-5)


def test_a_model_learns_what_another_one_says(tmp_path: Path) -> None:
    twin = write_twin('tabletop-nano', tmp_path / 'twin')
    data = write_conversations_of_all_media(tmp_path / 'data', 8, media_of('tabletop-nano'))
    batch = {'size': 8, 'per_device': 8, 'length': 256, 'group': False}
    run(stage(2, twin, data, tmp_path / 'taught', batch=batch, steps=30))
    taught = tmp_path / 'taught' / 'model'
    given = {'batch': batch, 'teacher': str(taught)}
    same = run(stage(2, taught, data, tmp_path / 'same', steps=1, **given))
    assert same['first_loss'] == pytest.approx(0, abs=1e-5)
    summary = run(stage(2, twin, data, tmp_path / 'out', steps=12, weight_bits=4, **given))
    assert 0.01 < summary['last_loss'] < 0.5 * summary['first_loss']


def test_what_is_evaluated_stays_the_answers(tmp_path: Path) -> None:
    twin = write_twin('tabletop-nano', tmp_path / 'twin')
    data = write_conversations_of_all_media(tmp_path / 'data', 8, media_of('tabletop-nano'))
    held = {'path': data.name, 'every': 1}
    summary = run(
        stage(2, twin, data, tmp_path / 'out', teacher=str(twin), evaluation=held, steps=1)
    )
    assert summary['evaluation_loss'] > 1 > summary['last_loss']


def test_a_teacher_of_other_tokens_is_named(tmp_path: Path) -> None:
    twin = write_twin('tabletop-nano', tmp_path / 'twin')
    other = write_twin('tabletop-nano', tmp_path / 'other')
    file = other / 'processor_config.json'
    changed = json.loads(file.read_text())
    changed['visual_tokens'] += 1
    file.write_text(json.dumps(changed))
    data = write_conversations_of_all_media(tmp_path / 'data', 4, media_of('tabletop-nano'))
    with pytest.raises(ConfigError, match=r'other has other tokens or other media'):
        run(stage(2, twin, data, tmp_path / 'out', teacher=str(other)))
