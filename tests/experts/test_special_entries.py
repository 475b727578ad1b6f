"""The shipped entries of Auffusion, FRESCO, SAM 3 and SEEM on videos run with tiny twins."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip('torch', reason='these experts need the extra [experts]')
pytest.importorskip('diffusers', reason='these experts need the extra [experts]')

from tests.experts.auffusion.tiny import save_plain, save_with_encoders
from tests.experts.fresco.tiny import save_fresco
from tests.experts.test_sam3 import request as phrases
from tests.experts.test_sam3 import save as save_sam3
from unifiedmllm_ros.experts.base import AudioResult, Request, VideoResult
from unifiedmllm_ros.experts.configuration import ExpertEntry, ExpertsConfig
from unifiedmllm_ros.experts.registry import ExpertRegistry
from unifiedmllm_ros.experts.weight_files import check_files
from unifiedmllm_ros.tasks import TASKS

SHIPPED = ExpertRegistry.from_file().config.experts


def registry(name: str, folder: Path, **changes: Any) -> ExpertRegistry:
    """The shipped entry of one expert with other weights, not bound to a task."""
    defaults = {**SHIPPED[name].defaults, 'device': 'cpu', **changes}
    update = {'weights': str(folder), 'memory_mib': 100.0, 'offload_mib': 0.0}
    entry = SHIPPED[name].model_copy(update={**update, 'defaults': defaults})
    return ExpertRegistry(ExpertsConfig(experts={name: entry}, tasks={}), folder.parent)


def run(name: str, folder: Path, request: Request, **changes: Any) -> Any:
    made = registry(name, folder, **changes)
    try:
        return made.run(request, name=name)
    finally:
        made.close()


def test_a_sound_of_the_shipped_entry(tmp_path: Path) -> None:
    folder = save_plain(tmp_path / 'auffusion')
    asked = Request('audgen', 'rain', parameters={'steps': 1, 'seconds': 0.16})
    result = run('auffusion', folder, asked)
    assert isinstance(result, AudioResult)
    assert len(result.samples) == 2560
    check_files('auffusion', registry('auffusion', folder).entry('auffusion'), folder)


def test_the_other_layout_passes_the_check_of_its_files(tmp_path: Path) -> None:
    folder = save_with_encoders(tmp_path / 'auffusion')
    entry = registry('auffusion', folder).entry('auffusion').model_copy(update={'holds': ()})
    check_files('auffusion', entry, folder)


def test_an_edit_of_the_shipped_entry(tmp_path: Path) -> None:
    folder = save_fresco(tmp_path / 'stable-diffusion')
    shutil.move(folder / 'controlnet', tmp_path / 'sd-controlnet-canny')
    few = {'steps': 2, 'short_side': 128, 'optimised_steps': 1, 'iterations': 1}
    frame = np.full((32, 40, 3), 90, np.uint8)
    result = run('fresco', folder, Request('videdit', 'snow', frame, parameters=few))
    assert isinstance(result, VideoResult)
    assert result.frames[0].shape == frame.shape


def test_masks_of_the_shipped_entry(tmp_path: Path) -> None:
    folder = save_sam3(tmp_path / 'sam3')
    assert len(run('sam3', folder, phrases()).masks) == 2
    check_files('sam3', registry('sam3', folder).entry('sam3'), folder)


@pytest.mark.parametrize(
    ('name', 'task', 'commercial'),
    [
        ('auffusion', 'audgen', False),
        ('fresco', 'videdit', False),
        ('sam3', 'seg', True),
        ('seem_video', 'vidseg', True),
    ],
)
def test_entries_say_what_they_are_for(name: str, task: str, commercial: bool) -> None:
    entry: ExpertEntry = SHIPPED[name]
    assert entry.kind == TASKS[task].expert
    assert entry.non_commercial is not commercial
    assert name not in ExpertRegistry.from_file().config.tasks.values()
