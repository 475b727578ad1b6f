"""Folders of tiny twins: each made once, when the first test asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope='session')
def twin(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a twin by its name, as in `twins.FOLDERS`; not to be written to."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        from tests.experts.diffusion.twins import FOLDERS

        if name not in made:
            made[name] = FOLDERS[name](tmp_path_factory.mktemp('twins') / name)
        return made[name]

    return folder
