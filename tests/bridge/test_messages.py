"""Answers as messages: boxes, masks, prose, errors, boxes in space, diagnostics."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: source scripts/env')

from builtin_interfaces.msg import Time
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from unifiedmllm_ros import errors, msg
from unifiedmllm_ros.bridge.answer import answer_messages
from unifiedmllm_ros.bridge.detections import detections_message
from unifiedmllm_ros.bridge.detections_3d import Pinhole, detections_3d_message
from unifiedmllm_ros.bridge.diagnostics import diagnostics_message
from unifiedmllm_ros.bridge.error_codes import error_code, error_message
from unifiedmllm_ros.bridge.image import array_to_image, depth_to_metres, image_to_rgb, rgb_to_jpeg
from unifiedmllm_ros.bridge.masks import masks_message
from unifiedmllm_ros.bridge.response import error_response
from unifiedmllm_ros.bridge.text import encodable
from unifiedmllm_ros.masks import Mask
from unifiedmllm_ros.model.protocol import ModelInfo
from unifiedmllm_ros.nodes import frame
from unifiedmllm_ros.perception import Answer
from unifiedmllm_ros.representation import Box, Region, Response, parse
from unifiedmllm_ros.representation import format as written

HEADER = Header(stamp=Time(sec=3, nanosec=4), frame_id='camera')


def answer(response: Response, masks: tuple[Mask, ...] = ()) -> Answer:
    text = written(response)
    return Answer(
        'q', text, response, parse(text)[1], masks, (), (), {'decode': 1.5}, ModelInfo('m', 'b')
    )


def through_the_wire(message: object) -> object:
    return deserialize_message(serialize_message(message), type(message))


@settings(max_examples=40, deadline=None)
@given(
    encoding=st.sampled_from(['rgb8', 'bgr8', 'mono8', 'mono16', '16UC1', '32FC1']),
    width=st.integers(2, 30),
    height=st.integers(2, 30),
    cut=st.booleans(),
)
def test_arrays_survive_the_message(encoding: str, width: int, height: int, cut: bool) -> None:
    kind = {'mono16': np.uint16, '16UC1': np.uint16, '32FC1': np.float32}.get(encoding, np.uint8)
    channels = (3,) if encoding in ('rgb8', 'bgr8') else ()
    pixels = np.random.default_rng(0).integers(0, 200, (height, width + 2, *channels)).astype(kind)
    pixels = pixels[:, :width] if cut else pixels  # not contiguous
    message = through_the_wire(array_to_image(pixels, encoding, HEADER))
    assert message.header == HEADER
    back = np.frombuffer(message.data, kind).reshape(pixels.shape)
    assert np.array_equal(back, pixels)
    assert message.step == pixels[0].nbytes
    if encoding == 'bgr8':
        assert np.array_equal(image_to_rgb(message), pixels[..., ::-1])


def test_an_array_of_another_type_is_refused() -> None:
    with pytest.raises(errors.ImageError, match='float64'):
        array_to_image(np.zeros((2, 2)), '32FC1', HEADER)


def test_jpeg_quality() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    small, large = rgb_to_jpeg(rgb, HEADER, 10), rgb_to_jpeg(rgb, HEADER, 95)
    assert len(small.data) < len(large.data) / 2
    assert small.header == HEADER
    assert small.format == 'jpeg'


def test_a_thing_pointed_at_and_segmented_is_one_detection() -> None:
    text = (
        'Here <p>mug</p><box>[0.100, 0.200, 0.300, 0.600]</box> it is '
        '<seg><p>mug</p><box>[0.100, 0.200, 0.300, 0.600]</box></seg>'
    )
    message = detections_message(parse(text)[0], 100, 50, HEADER)
    (detection,) = message.detections
    assert (detection.bbox.center.position.x, detection.bbox.center.position.y) == (20.0, 20.0)
    assert detection.results[0].hypothesis.score == 1.0


def test_labels_beyond_255_are_16_bit() -> None:
    boxes = tuple(Box(i / 1000, 0.0, (i + 2) / 1000, 1.0) for i in range(300))
    response = Response((Region('book', boxes),))
    one = np.ones((1, 1), dtype=bool)
    masks = tuple(Mask('book', box, i, 0, one) for i, box in enumerate(boxes))
    messages = answer_messages(answer(response, masks), (400, 10), HEADER)
    assert messages.masks.encoding == '16UC1'
    assert np.frombuffer(messages.masks.data, '<u2')[299] == 300
    assert len(messages.label_info.class_map) == 300


def test_a_box_without_mask_keeps_its_label() -> None:
    first, second = Box(0.0, 0.0, 0.5, 0.5, 0.9), Box(0.5, 0.5, 1.0, 1.0, 0.8)
    response = Response((Region('cup', (first,)), Region('bowl', (second,))))
    mask = Mask('bowl', second, 5, 5, np.ones((5, 5), dtype=bool))
    messages = answer_messages(answer(response, (mask,)), (10, 10), HEADER)
    assert set(np.unique(messages.labels)) == {0, 2}
    assert [c.class_name for c in messages.label_info.class_map] == ['cup', 'bowl']


def test_the_response_says_all() -> None:
    response = parse('A <cup>. <p>cup</p><box>[0.000, 0.000, 0.500, 0.500]</box>')[0]
    message = through_the_wire(answer_messages(answer(response), (10, 10), HEADER).response)
    assert message.model == 'm'
    assert message.backend == 'b'
    assert [(s.stage, s.milliseconds) for s in message.stages] == [('decode', 1.5)]
    assert message.regions[0].boxes[0] == msg.Box(x2=0.5, y2=0.5, confidence=1.0)


def test_problems_are_told() -> None:
    text = '<p>cup</p><box>[0.9, 0.9, 0.1, 0.1]</box>'
    response, problems = parse(text)
    whole = Answer('q', text, response, problems, (), (), (), {}, ModelInfo('m', 'b'))
    message = answer_messages(whole, (10, 10), HEADER).response
    assert message.problems[0].kind == 'degenerate_box'
    assert message.problems[0].position == text.index('<box>')


def all_errors(base: type = errors.UnifiedMLLMError) -> set[type]:
    return {base}.union(*(all_errors(kind) for kind in base.__subclasses__()))


def test_every_error_has_a_number() -> None:
    assert frame.BusyError in all_errors()
    modules = (errors.__name__, frame.__name__)
    own = {kind for kind in all_errors() if kind.__module__ in modules}
    unknown = [
        kind.__name__
        for kind in own
        if error_code(kind('x')) == msg.ErrorCode.UNKNOWN and kind is not errors.UnifiedMLLMError
    ]
    assert unknown == []
    assert error_code(ValueError('x')) == msg.ErrorCode.UNKNOWN
    assert error_message(ValueError('x')) == 'ValueError: x'


@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=50))
def test_any_text_can_be_sent_back(text: str) -> None:
    message = error_response(HEADER, text + '\ud800\0', errors.InstructionError(text))
    assert through_the_wire(message).error_code == msg.ErrorCode.INVALID_INSTRUCTION
    assert len(encodable('x' * 10_000)) == 4000


def camera(width: int = 100, height: int = 50) -> Pinhole:
    k = [100.0, 0.0, 49.5, 0.0, 100.0, 24.5, 0.0, 0.0, 1.0]
    return Pinhole.from_camera_info(CameraInfo(width=width, height=height, k=k))


def boxes_of(*boxes: Box) -> object:
    return detections_message(Response((Region('cup', boxes),)), 100, 50, HEADER)


def test_a_box_in_space() -> None:
    depth = np.full((50, 100), 2.0, np.float32)
    found = boxes_of(Box(0.5, 0.5, 0.7, 0.9))
    (lifted,) = detections_3d_message(found, (100, 50), depth, camera()).detections
    center, size = lifted.bbox.center.position, lifted.bbox.size
    assert np.allclose([center.x, center.y, center.z], [0.2, 0.2, 2.0])
    assert np.allclose([size.x, size.y, size.z], [0.4, 0.4, 0.0])
    assert lifted.header == HEADER
    assert lifted.results[0].hypothesis.class_id == 'cup'


def test_the_mask_tells_object_from_background() -> None:
    depth = np.full((50, 100), 5.0, np.float32)
    labels = np.zeros((50, 100), np.uint8)
    depth[25:45, 50:54], labels[25:45, 50:54] = 2.0, 1
    depth[26, 51] = np.nan
    found = boxes_of(Box(0.5, 0.5, 0.7, 0.9))
    (lifted,) = detections_3d_message(found, (100, 50), depth, camera(), labels).detections
    assert lifted.bbox.center.position.z == 2.0
    half = depth[::2, ::2]
    (lifted,) = detections_3d_message(found, (100, 50), half, camera(), labels).detections
    assert lifted.bbox.center.position.z == 2.0


def test_nothing_measured_gives_no_box_in_space() -> None:
    depth = np.full((50, 100), np.nan, np.float32)
    found = boxes_of(Box(0.5, 0.5, 0.7, 0.9))
    assert detections_3d_message(found, (100, 50), depth, camera()).detections == []


def test_an_uncalibrated_camera_is_named() -> None:
    with pytest.raises(errors.ImageError, match='calibrate'):
        Pinhole.from_camera_info(CameraInfo(width=10, height=10))


def test_masks_and_depth_are_images() -> None:
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert image_to_rgb(masks_message(labels, HEADER))[2, 3].tolist() == [11, 11, 11]
    with pytest.raises(errors.ImageError, match='rgb8'):
        depth_to_metres(Image(encoding='rgb8'))


def test_diagnostics() -> None:
    values = {'rate': 4.25, 'frames': 3, 'error': 'x\0y'}
    message = diagnostics_message('/n: perception', 'nano', 'warn', 'slow', values, HEADER.stamp)
    status = through_the_wire(message).status[0]
    assert status.level == b'\x01'
    assert {item.key: item.value for item in status.values} == {
        'rate': '4.2',
        'frames': '3',
        'error': 'xy',
    }
