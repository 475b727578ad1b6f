"""Every parameter of the perception node that can be changed takes effect; the others refuse."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from rcl_interfaces.srv import DescribeParameters, ListParameters
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection3DArray

from tests.nodes.graph import Graph, Inbox, header, picture, raw_image, stamped
from tests.nodes.scripted import ScriptedModel
from unifiedmllm_ros.bridge.image import array_to_image
from unifiedmllm_ros.bridge.parameters import is_read_only
from unifiedmllm_ros.msg import ErrorCode
from unifiedmllm_ros.nodes.configuration import PerceptionParameters

TESTED = {
    'depth_tolerance',
    'diagnostics_period',
    'expert_node_timeout',  # test_forwarding.py
    'input',
    'instruction',
    'mask_all',
    'masks',
    'max_image_pixels',
    'max_pending_questions',  # test_ask.py
    'max_rate',
    'max_tokens',
    'min_confidence',
    'overlay_quality',
    'publish_overlay',
    'use_depth',
}


def test_every_parameter_is_either_read_only_or_tested() -> None:
    fields = PerceptionParameters.model_fields
    assert {name for name, field in fields.items() if not is_read_only(field)} == TESTED


def test_all_are_declared_with_description_and_range(graph: Graph) -> None:
    listed = graph.call(ListParameters, 'perception_node/list_parameters', ListParameters.Request())
    assert set(PerceptionParameters.model_fields) <= set(listed.result.names)
    names = ['max_tokens', 'min_confidence', 'model', 'input']
    request = DescribeParameters.Request(names=names)
    tokens, confidence, model, image_input = graph.call(
        DescribeParameters, 'perception_node/describe_parameters', request
    ).descriptors
    assert (tokens.integer_range[0].from_value, tokens.integer_range[0].to_value) == (8, 4096)
    assert confidence.floating_point_range[0].to_value == 1.0
    assert model.read_only
    assert image_input.additional_constraints == 'one of: raw, compressed'
    assert all(d.description for d in (tokens, confidence, model, image_input))


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('model', 'other'),
        ('threads', 3),
        ('autostart', True),
        ('input', 'smoke signals'),
        ('min_confidence', 1.5),
        ('max_tokens', 0),
        ('instruction', 'z' * 3000),
        ('masks', 'yes'),
    ],
)
def test_what_is_not_allowed_is_refused_and_changes_nothing(
    graph: Graph, name: str, value: object
) -> None:
    before = graph.node.settings
    result = graph.set(**{name: value})
    assert not result.successful
    assert result.reason
    assert graph.node.settings == before


def test_instruction(graph: Graph) -> None:
    graph.activate()
    graph.set(instruction='find the mug')
    graph.send(1)
    assert graph['response'].wait(stamped(1)).instruction == 'find the mug'
    assert graph.set(instruction='').successful
    graph.send(2)
    graph.ask('find all bowls', image=raw_image(9))
    assert [m.header.stamp.sec for m in graph['response'].messages] == [1]


def test_instruction_from_the_start(ros: None) -> None:
    graph = Graph(ScriptedModel(), Parameter('instruction', value='find the mug'))
    try:
        graph.activate()
        graph.send(1)
        assert graph['response'].wait(stamped(1)).instruction == 'find the mug'
    finally:
        graph.close()


def test_input(graph: Graph) -> None:
    graph.activate()
    graph.instruct('find the mug')
    assert graph.set(input='compressed').successful
    graph.connected(graph.compressed)
    graph.send_compressed(1)
    assert graph['response'].wait(stamped(1)).error_code == ErrorCode.NONE
    assert graph.set(input='raw').successful
    graph.connected(graph.images)
    graph.send(2)
    graph['response'].wait(stamped(2))


def test_masks_and_mask_all(graph: Graph) -> None:
    graph.activate()
    graph.instruct('find the mug')

    def masked(stamp: int) -> bool:
        graph.send(stamp)
        return any(graph['masks'].wait(stamped(stamp)).data)

    assert masked(1)
    graph.set(masks=False)
    assert not masked(2)
    graph.set(masks=True)
    graph.instruct('find all bowls')
    graph['response'].wait(lambda m: m.instruction == 'find all bowls')
    assert not masked(3)
    graph.set(mask_all=True)
    assert masked(4)


def test_min_confidence(graph: Graph) -> None:
    graph.set(mask_all=True)
    graph.activate()
    graph.instruct('find all bowls')
    graph.send(1)
    assert len(graph['detections'].wait(stamped(1)).detections) == 2
    graph.set(min_confidence=0.5)
    graph.send(2)
    assert graph['detections'].wait(stamped(2)).detections == []
    assert not any(graph['masks'].wait(stamped(2)).data)
    assert graph['label_info'].wait(stamped(2)).threshold == 0.5
    assert len(graph['response'].wait(stamped(2)).regions[0].boxes) == 2


def test_max_tokens(graph: Graph) -> None:
    graph.activate()
    graph.ask('find the mug', image=raw_image(1))
    assert graph.model.max_tokens == 256
    graph.set(max_tokens=32)
    graph.ask('find the mug', image=raw_image(1))
    assert graph.model.max_tokens == 32


def test_max_image_pixels(graph: Graph) -> None:
    graph.activate()
    graph.set(max_image_pixels=64 * 48)
    assert graph.ask('find the mug', image=raw_image(1))[0].result.error_code == ErrorCode.NONE
    wrapped, _ = graph.ask('find the mug', image=raw_image(1, picture(65, 48)))
    assert wrapped.result.error_code == ErrorCode.INVALID_IMAGE
    assert 'max_image_pixels' in wrapped.result.error_msg


def test_max_rate(graph: Graph) -> None:
    graph.activate()
    graph.set(max_rate=0.001, instruction='find the mug')
    graph.send(1)
    graph['response'].wait(stamped(1))
    graph.send(2)
    graph.until(lambda: graph.node.statistics.snapshot().frames == 2)
    graph.set(max_rate=0.0)
    graph.send(3)
    graph['response'].wait(stamped(3))
    assert [m.header.stamp.sec for m in graph['response'].messages] == [1, 3]
    assert graph.node.statistics.snapshot().dropped == 1


def test_diagnostics_period(graph: Graph) -> None:
    graph.set(diagnostics_period=60.0)
    graph['diagnostics'].clear()
    graph.set(diagnostics_period=0.1)
    graph['diagnostics'].wait(seconds=5.0)


def overlay_inbox(graph: Graph) -> Inbox:
    inbox = graph.listen(CompressedImage, 'overlay/compressed')
    graph.until(lambda: graph.node._outputs.overlay_wanted)
    return inbox


def test_overlay_while_someone_listens(graph: Graph) -> None:
    graph.activate()
    graph.instruct('find the mug')
    graph.send(1)
    graph['response'].wait(stamped(1))
    inbox = overlay_inbox(graph)
    graph.send(2)
    good = inbox.wait()
    assert good.header == header(2)
    drawn = cv2.imdecode(np.frombuffer(good.data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert drawn.shape == (48, 64, 3)
    graph.set(overlay_quality=5)
    graph.send(3)
    assert len(inbox.wait(stamped(3)).data) < len(good.data)
    graph.set(publish_overlay=False)
    graph.send(4)
    graph['response'].wait(stamped(4))
    graph.set(publish_overlay=True)
    graph.send(5)
    inbox.wait(stamped(5))
    assert [m.header.stamp.sec for m in inbox.messages] == [2, 3, 5]


def test_depth(graph: Graph) -> None:
    info = CameraInfo(header=header(1), width=64, height=48)
    info.k = [50.0, 0.0, 31.5, 0.0, 50.0, 23.5, 0.0, 0.0, 1.0]
    inbox = graph.listen(Detection3DArray, 'detections_3d')
    depths = graph.client.create_publisher(Image, 'depth', 10)
    infos = graph.client.create_publisher(CameraInfo, 'camera_info', 10)
    graph.activate()
    graph.connected(depths)
    graph.connected(infos)
    graph.instruct('find the mug')

    def send(stamp: int, depth_stamp: int) -> None:
        metres = np.full((48, 64), 2.0, np.float32)
        depths.publish(array_to_image(metres, '32FC1', header(depth_stamp)))
        infos.publish(info)
        if graph.node.settings.use_depth:
            graph.until(lambda: graph.node._depth.at(depth_stamp * 10**9, 0.1) is not None)
        graph.send(stamp)
        graph['response'].wait(stamped(stamp))

    send(1, 1)
    (detection,) = inbox.wait(stamped(1)).detections
    assert detection.results[0].hypothesis.class_id == 'red mug'
    center, size = detection.bbox.center.position, detection.bbox.size
    assert np.allclose([center.x, center.y, center.z], [-8 * 2 / 50, -6 * 2 / 50, 2.0])
    assert np.allclose([size.x, size.y, size.z], [16 * 2 / 50, 12 * 2 / 50, 0.0])
    send(2, 3)  # a second apart: not the same moment
    graph.set(depth_tolerance=2.0)
    send(5, 4)
    inbox.wait(stamped(5))
    graph.set(use_depth=False)
    send(6, 6)
    graph.set(use_depth=True)
    graph.connected(depths)
    send(7, 7)
    inbox.wait(stamped(7))
    assert [m.header.stamp.sec for m in inbox.messages] == [1, 5, 7]


def test_qos_overrides(ros: None) -> None:
    name = 'qos_overrides./robot/image.subscription.reliability'
    graph = Graph(ScriptedModel(), Parameter(name, value='reliable'))
    try:
        graph.activate()
        (info,) = graph.client.get_subscriptions_info_by_topic('/robot/image')
        assert info.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    finally:
        graph.close()


def test_images_are_sensor_data_by_default(graph: Graph) -> None:
    graph.activate()
    (info,) = graph.client.get_subscriptions_info_by_topic('/robot/image')
    assert info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
