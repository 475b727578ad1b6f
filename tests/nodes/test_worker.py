"""The worker, the timeline and the statistics, without ROS."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from statistics import median

import pytest

from unifiedmllm_ros.model.protocol import ModelInfo
from unifiedmllm_ros.nodes.health import health
from unifiedmllm_ros.nodes.statistics import Statistics
from unifiedmllm_ros.nodes.timeline import Timeline
from unifiedmllm_ros.nodes.worker import Worker

SECONDS = 10.0


class Stage:
    """A worker whose frames wait at a gate."""

    def __init__(self) -> None:
        self.shown: list[object] = []
        self.defects: list[BaseException] = []
        self.busy, self.gate = threading.Event(), threading.Event()
        self.worker: Worker[object] = Worker(self.show, self.defects.append)

    def show(self, frame: object) -> None:
        self.shown.append(frame)
        self.busy.set()
        assert self.gate.wait(SECONDS)
        if frame == 'defect':
            raise RuntimeError('oops')

    def block(self) -> None:
        self.worker.offer('first')
        assert self.busy.wait(SECONDS)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.gate.set()
    stage.worker.stop(SECONDS)


def test_the_newest_frame_displaces_the_one_that_waits(stage: Stage) -> None:
    stage.block()
    assert [stage.worker.offer(frame) for frame in (2, 3, 4)] == [False, True, True]
    stage.gate.set()
    assert stage.worker.wait_idle(SECONDS)
    assert stage.shown == ['first', 4]


def test_jobs_go_before_the_frame_that_waits_and_in_order(stage: Stage) -> None:
    stage.block()
    stage.worker.offer('second')
    jobs = [stage.worker.submit(lambda n=n: stage.shown.append(n) or n) for n in (1, 2)]
    assert stage.worker.pending == 2
    stage.gate.set()
    assert [job.result(SECONDS) for job in jobs] == [1, 2]
    assert stage.worker.wait_idle(SECONDS)
    assert stage.shown == ['first', 1, 2, 'second']


def test_what_a_job_raises_is_in_its_future_and_what_a_frame_raises_is_told(stage: Stage) -> None:
    stage.gate.set()
    with pytest.raises(ZeroDivisionError):
        stage.worker.submit(lambda: 1 / 0).result(SECONDS)
    stage.worker.offer('defect')
    assert stage.worker.wait_idle(SECONDS)
    assert [str(defect) for defect in stage.defects] == ['oops']
    stage.worker.offer('next')
    assert stage.worker.wait_idle(SECONDS)
    assert stage.shown == ['defect', 'next']


def test_a_forgotten_frame_is_not_shown(stage: Stage) -> None:
    stage.block()
    stage.worker.offer('second')
    stage.worker.forget_frame()
    assert not stage.worker.wait_idle(0.01)
    stage.gate.set()
    assert stage.worker.wait_idle(SECONDS)
    assert stage.shown == ['first']


def test_stop_cancels_what_waits(stage: Stage) -> None:
    stage.block()
    waiting = stage.worker.submit(lambda: 1)
    threading.Timer(0.05, stage.gate.set).start()
    stage.worker.stop(SECONDS)
    for job in (waiting, stage.worker.submit(lambda: 2)):
        with pytest.raises(CancelledError):
            job.result(SECONDS)


def test_timeline() -> None:
    line = Timeline()
    assert [line.goes_back(stamp) for stamp in (5, 6, 6, 2, 3)] == [
        False,
        False,
        False,
        True,
        False,
    ]
    second = 10**9
    passed = [line.passes(second + ms * 10**6, 10.0) for ms in (0, 50, 99, 100, 150, 200)]
    assert passed == [True, False, False, True, False, True]
    assert line.passes(second, 10.0)  # the clock was set back
    assert line.passes(second, 0.0)


def test_statistics_and_health() -> None:
    statistics = Statistics()
    info = ModelInfo('nano', 'onnxruntime')
    assert health('inactive', '', None, statistics.snapshot()).level == 'ok'
    waiting = health('active', 'q', info, statistics.snapshot())
    assert (waiting.level, waiting.summary) == ('warn', 'active, but no images arrive')
    for ms in (10.0, 20.0, 90.0):
        statistics.frame()
        statistics.answer({'decode': ms}, ms + 1)
    statistics.drop()
    now = statistics.snapshot()
    assert now.stages_ms == {'decode': median([10.0, 20.0, 90.0])}
    assert now.frame_age_ms == 21.0
    assert (now.frames, now.answered, now.dropped) == (3, 3, 1)
    well = health('active', 'q', info, now)
    assert well.level == 'ok'
    assert well.values['model'] == 'nano'
    assert well.values['decode p50 (ms)'] == 20.0
    statistics.error('broken')
    ill = health('active', 'q', info, statistics.snapshot())
    assert (ill.level, ill.summary, ill.values['errors']) == ('error', 'broken', 1)
