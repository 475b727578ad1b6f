"""The live table: the same seed shows the same table, and the camera moves."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from tests.tabletop.conftest import SMALL_WORLD
from unifiedmllm_ros.tabletop import live
from unifiedmllm_ros.tabletop.catalogue import CATALOGUE, HELD_OUT
from unifiedmllm_ros.tabletop.live import LiveTable


@pytest.fixture(autouse=True)
def small_world(renderable: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, '_some_objects', lambda seed: SMALL_WORLD)


def test_frames_come_from_a_moving_camera() -> None:
    with LiveTable(seed=4, width=64, height=48) as table:
        first, second = islice(table.frames(rate=0.5), 2)
        again = table.frame(0.0)
    np.testing.assert_array_equal(again.rgb, first.rgb)
    assert np.abs(first.rgb.astype(int) - second.rgb).mean() > 2
    assert first.rgb.shape == (48, 64, 3)
    assert first.depth.shape == (48, 64)
    assert 0.2 < first.depth.min() < first.depth.max() < 6
    assert first.intrinsics[0, 2] == 31.5
    assert len(table.scene.objects) >= 5


def test_seeds_name_their_objects() -> None:
    chosen = _original(7)
    assert chosen == _original(7)
    assert chosen != _original(8)
    assert len(set(chosen)) == len(chosen) >= 10
    assert not set(chosen) & set(HELD_OUT)
    assert set(chosen) <= set(CATALOGUE)


_original = live._some_objects
