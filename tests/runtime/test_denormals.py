"""Denormal numbers are zero for the library's call, and for nobody else."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from unifiedmllm_ros.runtime import denormals
from unifiedmllm_ros.runtime.denormals import flushed
from unifiedmllm_ros.runtime.onnx_engine import OnnxEngine

from .conftest import TinyModel

DENORMAL = np.float32(1e-40)
known = pytest.mark.skipif(
    not denormals.known(), reason='only on x86-64 Linux is known how to set it'
)


def kept() -> bool:
    return bool(DENORMAL * np.float32(1) != 0)


@known
def test_denormals_are_zero_within_and_nowhere_else() -> None:
    within, looked = threading.Event(), threading.Event()
    others: list[bool] = []

    def look() -> None:
        within.wait(10)
        others.append(kept())
        looked.set()

    thread = threading.Thread(target=look)
    thread.start()
    with flushed():
        within.set()
        assert looked.wait(10)
        assert not kept()
    thread.join()
    assert kept()
    assert others == [True]


def test_they_are_set_back_after_an_error() -> None:
    with pytest.raises(ValueError, match='wrong'), flushed():
        raise ValueError('wrong')
    assert kept()


def test_elsewhere_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denormals, '_LIBRARY', None)
    with flushed():
        assert kept()


def test_an_engine_computes_flushed_and_leaves_its_thread_as_it_was(tiny: TinyModel) -> None:
    engine = OnnxEngine.load(tiny.folder / 'onnx', threads=2)
    assert kept()
    found: list[bool] = []
    engine._encoders['vision'] = Watched(engine._encoders['vision'], found)
    engine._decoder._session = Watched(engine._decoder._session, found)
    engine.encode_image(np.zeros((1, 3, *engine.manifest.image_size), np.float32))
    engine.step([1, 2, 3], engine.new_cache())
    assert kept()
    assert found == [not denormals.known()] * 2


class Watched:
    """A session that notes whether denormals are kept where it runs."""

    def __init__(self, session: Any, found: list[bool]) -> None:
        self._session, self._found = session, found

    def __getattr__(self, name: str) -> Any:
        if name in ('run', 'run_with_iobinding'):
            self._found.append(kept())
        return getattr(self._session, name)
