"""Checkpoints, made once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip('transformers', reason='needs the extra train')

from tests.runtime.local import checkpoints
from unifiedmllm_ros.runtime.local.description import LocalDescription
from unifiedmllm_ros.runtime.local.model import LocalModel

MAKERS: dict[str, Callable[[Path], Path]] = {
    'qwen2.5-vl': lambda folder: checkpoints.qwen(folder, '2.5'),
    'qwen3-vl': lambda folder: checkpoints.qwen(folder, '3'),
    'florence2': checkpoints.florence2,
    'paligemma': checkpoints.paligemma,
    'kosmos2': checkpoints.kosmos2,
    'grounding-dino': checkpoints.grounding_dino,
    'mm-grounding-dino': lambda folder: checkpoints.grounding_dino(folder, 'mm'),
    'owlv2': checkpoints.owlv2,
}


@pytest.fixture(scope='session')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's tiny checkpoint; not to be changed."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = MAKERS[family](tmp_path_factory.mktemp(family) / 'weights')
        return made[family]

    return folder


@pytest.fixture(scope='session')
def local(checkpoint: Callable[[str], Path]) -> Callable[..., LocalModel]:
    """A loaded model of a family."""

    def load(family: str, **fields: object) -> LocalModel:
        weights = str(checkpoint(family))
        description = LocalDescription.model_validate(
            {'kind': 'local', 'weights': weights, **fields}
        )
        return LocalModel.load(description, threads=1)

    return load
