"""The services of the expert node, its lifecycle, diagnostics and parameters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rclpy.parameter import Parameter

from tests.nodes.expert_graph import STEPS, ExpertGraph, closing
from tests.nodes.graph import header, picture, raw_image
from unifiedmllm_ros.bridge.parameters import is_read_only
from unifiedmllm_ros.errors import ExpertError
from unifiedmllm_ros.msg import Box, ErrorCode, ExpertState, Region
from unifiedmllm_ros.nodes.configuration import ExpertParameters
from unifiedmllm_ros.nodes.expert_node import ExpertNode, load
from unifiedmllm_ros.srv import EditImage, GenerateImage, ListExperts, UnloadExpert

REGION = Region(phrase='can', boxes=[Box(x1=0.1, y1=0.1, x2=0.5, y2=0.5, confidence=1.0)])
TESTED = {
    'client_timeout',  # test_expert_node.py
    'diagnostics_period',
    'input_folders',  # test_expert_files.py
    'max_image_pixels',
    'max_message_pixels',  # test_expert_files.py
    'max_pending_jobs',  # test_expert_node.py
    'max_video_frames',  # test_expert_files.py
    'output_folder',  # test_expert_files.py
    'preview_period',  # test_expert_node.py
    'preview_quality',  # test_expert_node.py
}


@pytest.fixture
def experts(ros: None, tmp_path: Path) -> Iterator[ExpertGraph]:
    yield from closing(tmp_path / 'output')


def test_every_parameter_is_either_read_only_or_tested() -> None:
    fields = ExpertParameters.model_fields
    assert {name for name, field in fields.items() if not is_read_only(field)} == TESTED


def edit(experts: ExpertGraph, **fields: object) -> EditImage.Response:
    return experts.call(EditImage, 'edit_image', EditImage.Request(**fields))


def test_edit_image(experts: ExpertGraph) -> None:
    experts.activate()
    told = edit(experts, image=raw_image(5), instruction='make it night', seed=9)
    assert (told.error_code, told.error_msg, told.path) == (ErrorCode.NONE, '', '')
    assert told.image.header == header(5)
    assert set(told.image.data) == {9}
    assert (told.provenance.task, told.provenance.seed) == ('edit', 9)
    told = edit(experts, image=raw_image(5), instruction='remove it', regions=[REGION])
    assert told.provenance.task == 'regedit'
    assert experts.script.requests[-1].boxes[0].phrase == 'can'


def test_generate_image(experts: ExpertGraph) -> None:
    experts.activate()

    def generate(**fields: object) -> GenerateImage.Response:
        request = GenerateImage.Request(prompt='a cat', **fields)
        return experts.call(GenerateImage, 'generate_image', request)

    told = generate(width=32)
    assert (told.error_code, told.image.width, told.image.height) == (ErrorCode.NONE, 32, 48)
    assert told.provenance.task == 'gen'
    assert experts.script.requests[-1].parameters == {'width': 32}
    assert generate(regions=[REGION]).provenance.task == 'layout'
    assert experts.script.requests[-1].parameters == {}


def test_services_say_what_is_wrong(experts: ExpertGraph) -> None:
    assert edit(experts, instruction='x').error_code == ErrorCode.NOT_ACTIVE
    experts.activate()
    assert edit(experts, instruction='x').error_code == ErrorCode.NO_IMAGE
    assert edit(experts, image=raw_image(1)).error_code == ErrorCode.INVALID_REQUEST
    experts.script.defects = [ExpertError('it broke')]
    told = edit(experts, image=raw_image(1), instruction='x')
    assert (told.error_code, told.error_msg) == (ErrorCode.EXPERT_FAILED, 'it broke')


def test_a_service_does_not_hold_up_the_others(experts: ExpertGraph) -> None:
    experts.activate()
    experts.script.gate.clear()
    request = EditImage.Request(image=raw_image(1), instruction='x')
    waiting = experts.call_async(EditImage, 'edit_image', request)
    assert experts.script.started.wait(10)
    listed = experts.call(ListExperts, 'list_experts', ListExperts.Request(task='edit'))
    assert listed.experts[0].state == ExpertState.BUSY
    experts.script.gate.set()
    assert experts.result(waiting).error_code == ErrorCode.NONE


def test_list_and_unload(experts: ExpertGraph) -> None:
    def listed(task: str = '') -> list[ExpertState]:
        request = ListExperts.Request(task=task)
        return experts.call(ListExperts, 'list_experts', request).experts

    def unload(name: str) -> UnloadExpert.Response:
        return experts.call(UnloadExpert, 'unload_expert', UnloadExpert.Request(name=name))

    refused = experts.call(ListExperts, 'list_experts', ListExperts.Request())
    assert refused.error_code == ErrorCode.NOT_ACTIVE
    experts.activate()
    assert len(listed()) == 8
    (before,) = listed('gen')
    assert (before.name, list(before.tasks), before.state) == (
        'text_to_image',
        ['gen'],
        ExpertState.AVAILABLE,
    )
    assert (before.licence, before.memory_mib) == ('MIT', 100.0)
    assert unload('text_to_image').freed_mib == 0.0
    experts.execute('gen', 'a cat')
    assert listed('gen')[0].state == ExpertState.LOADED
    assert unload('text_to_image').freed_mib == 100.0
    assert listed('gen')[0].state == ExpertState.AVAILABLE
    assert unload('nobody').error_code == ErrorCode.INVALID_REQUEST
    experts.script.gate.clear()
    experts.script.started.clear()
    running = experts.goal('gen', 'a cat')
    assert experts.script.started.wait(10)
    assert unload('text_to_image').error_code == ErrorCode.BUSY
    experts.script.gate.set()
    experts.result(running.get_result_async())


def test_diagnostics_tell_of_node_experts_and_jobs(experts: ExpertGraph) -> None:
    experts.set(diagnostics_period=0.1)
    experts.activate()
    experts.script.gate.clear()
    handle = experts.goal('edit', 'make it night', image=True, seed=7, parameters={'steps': '4'})
    assert experts.script.started.wait(10)
    second = experts.goal('gen', 'a cat')
    experts.status('experts', state='active', **{'jobs waiting': '1'})
    number = experts.node._jobs.running.number
    job = experts.status(f'job {number}', state='running', detail='denoise', progress='0.200')
    assert (
        job.items()
        >= {
            'task': 'edit',
            'expert': 'image_edit',
            'seed': '7',
            'input size': '64x48',
            'parameters': 'steps=4',
            'argument': 'make it night',
        }.items()
    )
    assert float(job['eta (s)']) >= 0
    experts.status('expert image_edit', state='busy', licence='MIT')
    experts.script.gate.set()
    for one in (handle, second):
        experts.result(one.get_result_async())
    experts.status('experts', **{'jobs done': '2', 'jobs waiting': '0'})
    experts.status('expert image_edit', state='loaded', runs='1', backend='script', dtype='f32')


def test_an_error_shows_in_the_diagnostics(experts: ExpertGraph) -> None:
    experts.set(diagnostics_period=0.1)
    experts.activate()
    experts.script.defects = [ExpertError('it broke')]
    experts.execute('gen', 'a cat')
    shown = experts.diagnostics.wait(lambda m: m.status[0].level == b'\x02')
    assert shown.status[0].message == 'it broke'
    told = experts.status('expert text_to_image', failed='1')
    assert told['last error'] == 'it broke'


def test_max_image_pixels(experts: ExpertGraph) -> None:
    experts.activate()
    experts.set(max_image_pixels=64 * 48)
    assert edit(experts, image=raw_image(1), instruction='x').error_code == ErrorCode.NONE
    larger = raw_image(1, picture(65, 48))
    told = edit(experts, image=larger, instruction='x')
    assert told.error_code == ErrorCode.INVALID_IMAGE
    assert 'max_image_pixels' in told.error_msg


def test_through_all_states_twice(experts: ExpertGraph) -> None:
    for _ in range(2):
        experts.activate()
        image = experts.execute('gen', 'a cat', seed=1)[0].result.images[0]
        assert np.all(np.frombuffer(image.data, np.uint8) == 1)
        assert experts.transition('deactivate')
        assert experts.transition('cleanup')
    assert experts.script.steps == [STEPS, STEPS]
    assert experts.transition('shutdown')


@pytest.mark.parametrize(
    ('name', 'value'),
    [('experts', 'x.yaml'), ('max_pending_jobs', 0), ('output_folder', 'here')],
)
def test_what_is_not_allowed_is_refused_and_changes_nothing(
    experts: ExpertGraph, name: str, value: object
) -> None:
    before = experts.node.settings
    result = experts.set(**{name: value})
    assert not result.successful
    assert result.reason
    assert experts.node.settings == before


def test_a_wrong_configuration_leaves_the_node_unconfigured(ros: None, tmp_path: Path) -> None:
    missing = tmp_path / 'none.yaml'
    node = ExpertNode(load, parameter_overrides=[Parameter('experts', value=str(missing))])
    try:
        assert not node.start()
        assert node.state_label == 'unconfigured'
        assert str(missing) in node.statistics.snapshot().last_error
    finally:
        node.destroy_node()


def test_the_experts_of_the_package_are_read() -> None:
    assert 'seg' in load(ExpertParameters()).registry.config.tasks
