"""Task calls, parameters and results of experts as messages, and back."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: source scripts/env')

from diagnostic_msgs.msg import KeyValue
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header

from unifiedmllm_ros import msg
from unifiedmllm_ros.bridge.experts import expert_state_message
from unifiedmllm_ros.bridge.results import (
    local_task_result,
    needs_file,
    provenance_message,
    result_messages,
)
from unifiedmllm_ros.bridge.task_call import (
    MAX_ARGUMENT,
    parameter_messages,
    parameter_values,
    task_call,
    task_call_message,
)
from unifiedmllm_ros.errors import RepresentationError, RequestError
from unifiedmllm_ros.experts.base import (
    AudioResult,
    ImageResult,
    Provenance,
    Result,
    VideoSegmentationResult,
)
from unifiedmllm_ros.experts.registry import ExpertRegistry
from unifiedmllm_ros.masks import Mask
from unifiedmllm_ros.representation import Box, Region, TaskCall

SOURCE = Provenance('sd', 'torch', 'sd 1a2b', 7, {'steps': 20}, 1234.5, 'cuda:0', 'float16', ('x',))
HEADER = Header(frame_id='camera')

words = st.text(st.characters(exclude_categories=['Cs'], exclude_characters='\0'), max_size=30)
corners = st.tuples(st.integers(0, 499), st.integers(501, 1000)).map(
    lambda pair: (pair[0] / 1000, pair[1] / 1000)
)
boxes = st.tuples(corners, corners).map(lambda c: Box(c[0][0], c[1][0], c[0][1], c[1][1]))
calls = st.builds(
    TaskCall,
    st.sampled_from(['seg', 'edit', 'own_task']),
    words,
    st.lists(
        st.builds(Region, words, st.lists(boxes, min_size=1, max_size=3).map(tuple)), max_size=3
    ).map(tuple),
)
scalars = (
    st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
)


def through_the_wire(message: object) -> object:
    return deserialize_message(serialize_message(message), type(message))


@settings(max_examples=60)
@given(call=calls)
def test_a_call_survives_the_message(call: TaskCall) -> None:
    assert task_call(through_the_wire(task_call_message(call))) == call


@settings(max_examples=100)
@given(values=st.dictionaries(st.from_regex(r'[a-z_]{1,12}', fullmatch=True), scalars, max_size=5))
@example(values={'quoted': '#\\', 'date': '2024-13-45', 'list': '[1, 2]'})
def test_parameters_survive_the_message(values: dict) -> None:
    assert parameter_values(parameter_messages(values)) == values


@settings(max_examples=100)
@given(text=st.text(st.characters(exclude_categories=['Cs'])))
def test_any_value_is_read_or_refused(text: str) -> None:
    try:
        value = parameter_values([KeyValue(key='x', value=text)])['x']
    except RequestError:
        return
    assert isinstance(value, bool | int | float | str)


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('20', 20),
        ('7.5', 7.5),
        ('true', True),
        ('ddim', 'ddim'),
        ("'20'", '20'),
        ('soft light, no blur', 'soft light, no blur'),
    ],
)
def test_values_are_written_as_in_yaml(text: str, value: object) -> None:
    read = parameter_values([KeyValue(key='x', value=text)])['x']
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ('pairs', 'problem'),
    [
        ([('', '1')], 'no name'),
        ([('a', '1'), ('a', '2')], 'twice'),
        ([('a', '[1]')], 'list'),
        ([('a', '.inf')], 'finite'),
        ([('a', 'x' * 5000)], '5000'),
        ([('a', '!!python/object:os.system x')], None),
    ],
)
def test_wrong_parameters_are_named(pairs: list, problem: str | None) -> None:
    messages = [KeyValue(key=key, value=value) for key, value in pairs]
    if problem is None:  # a tag that nobody knows is text
        assert parameter_values(messages)['a'].startswith('!!python')
        return
    with pytest.raises(RequestError, match=problem):
        parameter_values(messages)


def test_wrong_calls_are_named() -> None:
    with pytest.raises(RequestError, match=str(MAX_ARGUMENT)):
        task_call(msg.TaskCall(task='gen', argument='x' * (MAX_ARGUMENT + 1)))
    with pytest.raises(RepresentationError, match='no box'):
        task_call(msg.TaskCall(task='seg', regions=[msg.Region(phrase='mug')]))


def test_provenance_tells_all() -> None:
    told = through_the_wire(provenance_message('gen', SOURCE))
    assert (told.task, told.expert, told.backend, told.weights) == ('gen', 'sd', 'torch', 'sd 1a2b')
    assert (told.device, told.dtype, told.seed, told.notices) == ('cuda:0', 'float16', 7, ['x'])
    assert (told.duration.sec, told.duration.nanosec) == (1, 234_500_000)
    assert parameter_values(told.parameters) == {'steps': 20}


def test_large_images_need_a_file() -> None:
    result = ImageResult(SOURCE, (np.zeros((4, 6, 3), np.uint8),) * 2)
    assert not needs_file(result, 48)
    assert len(result_messages(result, (0, 0), HEADER, 48).images) == 2
    assert needs_file(result, 47)
    assert result_messages(result, (0, 0), HEADER, 47).images == []


def test_of_a_videos_masks_the_first_frame_is_sent() -> None:
    first = Mask('mug', Box(0.0, 0.0, 0.5, 0.5), 1, 1, np.ones((2, 2), bool))
    second = Mask('mug', first.box, 0, 0, np.ones((4, 6), bool))
    result = VideoSegmentationResult(SOURCE, ((first,), (second,)))
    assert needs_file(result, 10**9)
    sent = result_messages(result, (6, 4), HEADER, 10**9)
    assert (sent.masks.width, sent.masks.height, sum(sent.masks.data)) == (6, 4, 4)
    assert sent.label_info.class_map[0].class_name == 'mug'


def test_a_result_of_ones_own_has_provenance_alone() -> None:
    result = Result(SOURCE)
    assert needs_file(result, 0)
    assert result_messages(result, (0, 0), HEADER, 10).images == []


def test_a_sound_made_in_process_is_said_to_be_lost() -> None:
    sound = AudioResult(SOURCE, np.zeros(10, np.float32), 16_000)
    told = local_task_result(TaskCall('audgen', 'rain'), sound, HEADER)
    assert told.error_code == msg.ErrorCode.RESULT_NOT_WRITTEN
    assert 'expert_node' in told.error_msg
    assert told.provenance.expert == 'sd'


def test_every_expert_of_the_package_has_a_message() -> None:
    for status in ExpertRegistry.from_file().list():
        told = through_the_wire(expert_state_message(status))
        assert (told.name, told.licence) == (status.name, status.licence)
