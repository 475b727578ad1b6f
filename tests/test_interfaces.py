"""Messages, services and actions: they import, travel over DDS, and are the right ones."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path

import pytest
import rclpy
from ament_index_python.packages import get_package_share_directory
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from rclpy.task import Future

ROOT = Path(__file__).resolve().parents[1]
INTERFACES = sorted(
    path.relative_to(ROOT) for kind in ('msg', 'srv', 'action') for path in ROOT.glob(f'{kind}/*')
)

# The type hashes that the packages of ROS 2 Jazzy have. Nodes with another hash do not talk.
JAZZY = {
    'audio_common_msgs/AudioDataStamped': (
        '6fc679d5a868ed68e4d301f1ef42abecc86140afb57d255656ff2d9e476ea9e3'
    ),
    'vision_msgs/Detection2DArray': (
        '214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968'
    ),
    'vision_msgs/Detection3DArray': (
        '793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018'
    ),
    'vision_msgs/LabelInfo': '3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783',
}


@pytest.fixture
def node():
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('interfaces', context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def travel(node, message):
    """Publish `message`, and return what a subscription receives."""
    qos = QoSProfile(depth=1, durability=rclpy.qos.DurabilityPolicy.TRANSIENT_LOCAL)
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    topic = 'travel_' + type(message).__name__
    received = Future(executor=executor)
    node.create_subscription(type(message), topic, received.set_result, qos)
    node.create_publisher(type(message), topic, qos).publish(message)
    executor.spin_until_future_complete(received, timeout_sec=20.0)
    assert received.done()
    return received.result()


def response():
    from std_msgs.msg import Header

    from unifiedmllm_ros.msg import Box, Problem, Region, Response, StageTime, TaskCall

    box = Box(x1=0.125, y1=0.25, x2=0.5, y2=1.0, confidence=0.75)
    region = Region(phrase='red mug', boxes=[box, box])
    return Response(
        header=Header(frame_id='camera'),
        instruction='find the mug',
        text='It is here.',
        raw='It is here. <p>red mug</p>',
        regions=[region],
        calls=[TaskCall(task='seg', argument='café', regions=[region])],
        problems=[Problem(kind='unclosed_tag', position=4, text='<p>', message='never closed')],
        stages=[StageTime(stage='encode', milliseconds=12.5)],
        model='tabletop-nano',
        backend='onnxruntime',
        error_code=0,
        error_msg='',
    )


@pytest.mark.parametrize('path', INTERFACES, ids=str)
def test_every_interface_is_built_as_it_is_written(path):
    interface = getattr(import_module(f'unifiedmllm_ros.{path.parent}'), path.stem)
    parts = {
        'msg': [interface],
        'srv': [getattr(interface, 'Request', None), getattr(interface, 'Response', None)],
        'action': [getattr(interface, name, None) for name in ('Goal', 'Result', 'Feedback')],
    }[str(path.parent)]
    sections = (ROOT / path).read_text().split('\n---\n')
    for part, section in zip(parts, sections, strict=True):
        # A field is a type and a name; a constant has = after its name.
        fields = re.findall(r'^(?!#)[\w/]+(?:\[\])? (\w+)(?!\w*=)(?: .*)?$', section, re.MULTILINE)
        assert list(part.get_fields_and_field_types()) == fields


def test_every_line_of_an_interface_fits():
    for path in INTERFACES:
        assert [line for line in (ROOT / path).read_text().split('\n') if len(line) > 100] == []


def test_response_travels(node):
    assert travel(node, response()) == response()


def test_detections_travel(node):
    from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = 'red mug'
    hypothesis.hypothesis.score = 0.5
    sent = Detection2DArray(detections=[Detection2D(id='7', results=[hypothesis])])
    sent.detections[0].bbox.center.position.x = 12.5
    assert travel(node, sent) == sent


def test_goal_and_result_of_ask_travel(node):
    from unifiedmllm_ros.action import Ask

    assert Ask.Goal().execute is True
    goal = Ask.Goal(instruction='find the mug', execute=False)
    goal.compressed_image.data = bytes(range(256))
    assert travel(node, goal) == goal
    result = Ask.Result(response=response(), error_code=101, error_msg='width is 0')
    assert travel(node, result) == result


def test_seeds_are_drawn_unless_given():
    from unifiedmllm_ros.action import ExecuteTask
    from unifiedmllm_ros.srv import EditImage, GenerateImage

    goals = (ExecuteTask.Goal(), EditImage.Request(), GenerateImage.Request())
    assert [goal.seed for goal in goals] == [-1, -1, -1]


def test_error_codes_are_distinct_and_grouped():
    text = (ROOT / 'msg' / 'ErrorCode.msg').read_text()
    codes = {name: int(code) for name, code in re.findall(r'^uint16 (\w+)=(\d+)', text, re.M)}
    assert codes['NONE'] == 0
    assert len(set(codes.values())) == len(codes)
    assert {code // 100 for code in codes.values()} == {0, 1, 2, 3, 4, 5, 9}


@pytest.mark.parametrize('name', JAZZY)
def test_messages_of_other_packages_are_those_of_jazzy(name):
    package, message = name.split('/')
    try:
        share = Path(get_package_share_directory(package))
    except LookupError:
        pytest.skip(f'{package} is not installed')
    described = json.loads((share / 'msg' / f'{message}.json').read_text())
    hashes = {item['type_name']: item['hash_string'] for item in described['type_hashes']}
    assert hashes[f'{package}/msg/{message}'] == f'RIHS01_{JAZZY[name]}'
