"""The action `execute_task`: results, feedback, cancel, the queue, and every way it can fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from sensor_msgs.msg import Image

from tests.nodes.expert_graph import STEPS, ExpertGraph, closing, task_goal
from tests.nodes.graph import Inbox, header, picture, raw_image
from unifiedmllm_ros.action import ExecuteTask
from unifiedmllm_ros.errors import ExpertError, OutOfMemoryError
from unifiedmllm_ros.msg import ErrorCode

ABORTED, CANCELED = GoalStatus.STATUS_ABORTED, GoalStatus.STATUS_CANCELED
SUCCEEDED = GoalStatus.STATUS_SUCCEEDED
BOX = {'red mug': (0.25, 0.25, 0.5, 0.5)}
Feedback = ExecuteTask.Feedback


@pytest.fixture
def experts(ros: None, tmp_path: Path) -> Iterator[ExpertGraph]:
    yield from closing(tmp_path / 'output')


def test_an_image_is_edited(experts: ExpertGraph) -> None:
    experts.activate()
    wrapped, feedback = experts.watch(
        'edit', 'make it night', image=True, seed=7, parameters={'steps': '4', 'sampler': 'ddim'}
    )
    result = wrapped.result
    assert (wrapped.status, result.error_code) == (SUCCEEDED, ErrorCode.NONE)
    (image,) = result.images
    assert image.header == header(42)
    assert (image.encoding, image.width, image.height) == ('rgb8', 64, 48)
    assert set(image.data) == {7}
    assert result.paths == []
    provenance = result.provenance
    assert (provenance.task, provenance.expert, provenance.backend) == (
        'edit',
        'image_edit',
        'script',
    )
    assert (provenance.seed, provenance.device, provenance.dtype) == (7, 'cpu', 'f32')
    assert {p.key: p.value for p in provenance.parameters} == {'steps': '4', 'sampler': 'ddim'}
    assert (provenance.duration.sec, provenance.duration.nanosec) == (0, 12_500_000)
    (request,) = experts.script.requests
    assert request.parameters == {'steps': 4, 'sampler': 'ddim'}
    assert np.array_equal(request.image, picture())
    assert (feedback[-1].phase, feedback[-1].detail) == (Feedback.RUNNING, 'denoise')


def test_regions_become_masks(experts: ExpertGraph) -> None:
    experts.activate()
    result = experts.execute('seg', image=True, regions=BOX)[0].result
    assert result.masks.header == result.label_info.header == header(42)
    assert np.count_nonzero(np.frombuffer(result.masks.data, np.uint8)) == 12 * 16
    assert result.label_info.class_map[0].class_name == 'red mug'


def test_a_seed_is_drawn_and_told(experts: ExpertGraph) -> None:
    experts.activate()
    seeds = {experts.execute('gen', 'a cat')[0].result.provenance.seed for _ in range(3)}
    assert len(seeds) == 3
    assert min(seeds) >= 0
    again = experts.execute('gen', 'a cat', seed=min(seeds))[0].result
    assert again.images[0].data[0] == min(seeds) % 256


def test_neither_progress_nor_phase_fall(experts: ExpertGraph) -> None:
    experts.activate()
    experts.script.fractions = [0.5, 0.2, float('nan'), -1.0, 7.0]
    wrapped, feedback = experts.watch('edit', 'make it night', image=True)
    assert wrapped.status == SUCCEEDED
    told = [f.progress for f in feedback]
    assert told == sorted(told)
    assert (told[-1], min(told)) == (1.0, 0.0)
    phases = [f.phase for f in feedback]
    assert phases == sorted(phases)
    assert {Feedback.LOADING, Feedback.RUNNING} <= set(phases)


def test_previews_come_as_often_as_they_may(experts: ExpertGraph) -> None:
    def previews() -> list:
        feedback = experts.watch('edit', 'x', image=True)[1]
        return [f.preview for f in feedback if f.preview.data]

    experts.activate()
    (preview,) = previews()
    assert (preview.format, preview.header) == ('jpeg', header(42))
    experts.set(preview_period=0.0)
    assert previews() == []
    experts.set(preview_period=1e-6)
    fine = previews()
    assert len(fine) == STEPS
    experts.set(preview_quality=1)
    assert len(previews()[0].data) < len(fine[0].data)


def test_cancel_takes_effect_within_a_step_and_the_next_job_is_unaffected(
    experts: ExpertGraph,
) -> None:
    experts.activate()
    whole = experts.execute('gen', 'a cat', seed=3)[0].result
    experts.script.gate.clear()
    experts.script.started.clear()
    handle = experts.goal('gen', 'a cat', seed=3)
    assert experts.script.started.wait(10)
    assert len(experts.result(handle.cancel_goal_async()).goals_canceling) == 1
    wrapped = experts.result(handle.get_result_async())
    assert (wrapped.status, wrapped.result.error_code) == (CANCELED, ErrorCode.CANCELLED)
    assert experts.script.steps[-1] <= 1
    experts.script.gate.set()
    after = experts.execute('gen', 'a cat', seed=3)[0]
    assert after.status == SUCCEEDED
    assert after.result.images[0].data == whole.images[0].data


def test_a_waiting_job_is_cancelled_at_once(experts: ExpertGraph) -> None:
    experts.activate()
    experts.script.gate.clear()
    first = experts.goal('gen', 'one')
    assert experts.script.started.wait(10)
    second = experts.goal('gen', 'two')
    experts.result(second.cancel_goal_async())
    # The first one still runs.
    wrapped = experts.result(second.get_result_async())
    assert (wrapped.status, wrapped.result.error_code) == (CANCELED, ErrorCode.CANCELLED)
    experts.script.gate.set()
    assert experts.result(first.get_result_async()).status == SUCCEEDED
    assert [request.argument for request in experts.script.requests] == ['one']


def test_jobs_wait_their_turn_and_know_it(experts: ExpertGraph) -> None:
    experts.activate()
    experts.script.gate.clear()
    heard = [Inbox(), Inbox()]
    handles = [experts.goal('gen', 'one')]
    assert experts.script.started.wait(10)
    handles += [experts.goal('gen', str(i), heard[i - 1]) for i in (1, 2)]
    experts.script.end.clear()
    experts.script.gate.set()
    heard[1].wait(lambda f: f.queue_position == 2)
    experts.until(lambda: experts.script.steps == [STEPS])
    experts.script.end.set()
    for handle in handles:
        assert experts.result(handle.get_result_async()).status == SUCCEEDED
    assert [r.argument for r in experts.script.requests] == ['one', '1', '2']
    assert len(experts.script.threads) == 1
    positions = [f.queue_position for f in heard[1].messages]
    assert positions == sorted(positions, reverse=True)
    assert positions[0] == 2
    assert all(f.phase == Feedback.QUEUED for f in heard[1].messages if f.queue_position)


def test_two_clients_at_once_and_one_that_leaves(experts: ExpertGraph) -> None:
    experts.set(client_timeout=0.1)
    experts.activate()
    experts.script.gate.clear()
    handle = experts.goal('gen', 'one', seed=1)
    assert experts.script.started.wait(10)
    other = ActionClient(experts.client, ExecuteTask, 'execute_task')
    assert other.wait_for_server(10)
    second = experts.result(other.send_goal_async(task_goal('gen', 'two', seed=2)))
    results = [one.get_result_async() for one in (handle, second)]
    experts.executor.create_task(other.destroy)
    experts.until(lambda: experts.node.count_subscribers('execute_task/_action/feedback') == 1)
    experts.script.gate.set()
    # The one that is there has its result; the other's job is done too, and nobody hears of it.
    assert set(experts.result(results[0]).result.images[0].data) == {1}
    experts.until(lambda: experts.node.statistics.snapshot().counts.get('done') == 2)
    assert [request.argument for request in experts.script.requests] == ['one', 'two']


def test_a_job_too_many_is_refused(experts: ExpertGraph) -> None:
    experts.set(max_pending_jobs=1)
    experts.activate()
    experts.script.gate.clear()
    first = experts.goal('gen', 'one')
    assert experts.script.started.wait(10)
    second = experts.goal('gen', 'two')
    third = experts.execute('gen', 'three')[0]
    assert (third.status, third.result.error_code) == (ABORTED, ErrorCode.BUSY)
    experts.script.gate.set()
    for handle in (first, second):
        assert experts.result(handle.get_result_async()).status == SUCCEEDED


def test_deactivation_stops_all_jobs_and_says_why(experts: ExpertGraph) -> None:
    experts.activate()
    experts.script.gate.clear()
    handles = [experts.goal('gen', 'one')]
    assert experts.script.started.wait(10)
    handles.append(experts.goal('gen', 'two'))
    assert experts.transition('deactivate')
    for handle in handles:
        wrapped = experts.result(handle.get_result_async())
        assert (wrapped.status, wrapped.result.error_code) == (ABORTED, ErrorCode.NOT_ACTIVE)
        assert 'deactivated' in wrapped.result.error_msg
    refused = experts.execute('gen', 'three')[0]
    assert (refused.status, refused.result.error_code) == (ABORTED, ErrorCode.NOT_ACTIVE)
    experts.script.gate.set()
    assert experts.transition('activate')
    assert experts.execute('gen', 'four')[0].status == SUCCEEDED


def test_a_job_whose_client_has_gone_is_stopped(experts: ExpertGraph) -> None:
    experts.set(client_timeout=0.1, diagnostics_period=0.1)
    experts.activate()
    experts.script.gate.clear()
    experts.goal('gen', 'one')
    assert experts.script.started.wait(10)
    number = experts.node._jobs.running.number
    experts.leave()
    told = experts.status(f'job {number}', state='cancelled')
    assert 'client has gone' in told['error']
    assert experts.script.steps == [1]


def wrong_requests() -> dict[str, tuple[str, dict, int]]:
    invalid, image = ErrorCode.INVALID_REQUEST, ErrorCode.INVALID_IMAGE
    short = Image(encoding='rgb8', width=9, height=1, step=27, data=b'x')
    return {
        'unknown task': ('smell', {}, ErrorCode.UNKNOWN_TASK),
        'no expert': ('imgvid', {'argument': 'x', 'image': True}, ErrorCode.EXPERT_NOT_INSTALLED),
        'no prompt': ('gen', {}, invalid),
        'no region': ('seg', {'image': True}, invalid),
        'no image': ('edit', {'argument': 'x'}, ErrorCode.NO_IMAGE),
        'broken image': ('edit', {'argument': 'x', 'images': [short]}, image),
        'empty image': ('edit', {'argument': 'x', 'images': [Image()]}, image),
        'degenerate box': ('seg', {'image': True, 'regions': {'a': (0.5, 0.5, 0.5, 0.6)}}, invalid),
        'box outside': ('seg', {'image': True, 'regions': {'a': (0.5, 0.5, 1.5, 0.6)}}, invalid),
        'box of NaN': (
            'seg',
            {'image': True, 'regions': {'a': (float('nan'), 0.5, 0.6, 0.6)}},
            invalid,
        ),
        'negative seed': ('gen', {'argument': 'x', 'seed': -2}, invalid),
        'parameter without name': ('gen', {'argument': 'x', 'parameters': {'': '1'}}, invalid),
        'parameter that is a list': (
            'gen',
            {'argument': 'x', 'parameters': {'steps': '[1, 2]'}},
            invalid,
        ),
        'parameter that is not finite': (
            'gen',
            {'argument': 'x', 'parameters': {'guidance': '.nan'}},
            invalid,
        ),
        'endless prompt': ('gen', {'argument': 'x' * 100_000}, invalid),
        'image and video': (
            'vidseg',
            {'image': True, 'regions': BOX, 'video_path': '/a.mp4'},
            invalid,
        ),
        'frames of two sizes': (
            'vidseg',
            {'images': [raw_image(1), raw_image(2, picture(32, 24))], 'regions': BOX},
            image,
        ),
    }


@pytest.mark.parametrize('name', wrong_requests())
def test_a_wrong_request_is_an_error_and_the_node_lives_on(experts: ExpertGraph, name: str) -> None:
    experts.activate()
    task, fields, code = wrong_requests()[name]
    wrapped, _ = experts.execute(task, **fields)
    assert (wrapped.status, wrapped.result.error_code) == (ABORTED, code), wrapped.result.error_msg
    assert wrapped.result.error_msg
    assert experts.script.requests == []
    assert experts.execute('gen', 'a cat')[0].status == SUCCEEDED


@pytest.mark.parametrize(
    ('defect', 'code', 'message'),
    [
        (ExpertError('the UNet gave NaN'), ErrorCode.EXPERT_FAILED, 'the UNet gave NaN'),
        (OutOfMemoryError('too large'), ErrorCode.OUT_OF_MEMORY, 'too large'),
        (ZeroDivisionError('oops'), ErrorCode.UNKNOWN, 'ZeroDivisionError: oops'),
    ],
    ids=str,
)
def test_an_expert_that_breaks_down(
    experts: ExpertGraph, defect: Exception, code: int, message: str
) -> None:
    experts.activate()
    experts.script.defects = [defect, defect]  # after a lack of memory it is tried once more
    wrapped, _ = experts.execute('gen', 'a cat')
    assert wrapped.status == ABORTED
    assert wrapped.result.error_code == code
    assert message in wrapped.result.error_msg
    experts.script.defects.clear()
    assert experts.execute('gen', 'a cat')[0].status == SUCCEEDED
