"""What cameras, bags and operators get wrong on topics: each is told, and the node lives on."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image

from tests.nodes.graph import Graph, header, picture, raw_image, stamped
from unifiedmllm_ros.msg import ErrorCode

ERROR_LEVEL = b'\x02'


def broken(stamp: int) -> dict[str, Image]:
    def image(**fields: object) -> Image:
        return Image(**{**sound, **fields})

    sound = {
        'header': header(stamp),
        'encoding': 'rgb8',
        'width': 64,
        'height': 48,
        'step': 192,
        'data': bytes(192 * 48),
    }
    return {
        'unknown encoding': image(encoding='jpeg2000'),
        'zero size': image(width=0, height=0, step=0, data=b''),
        'wrong step': image(step=100),
        'wrong data length': image(data=bytes(192 * 48 - 1)),
        'one pixel': image(width=1, height=1, step=3, data=b'abc'),
    }


@pytest.mark.parametrize('name', broken(0))
def test_a_broken_image_on_the_topic(graph: Graph, name: str) -> None:
    graph.activate()
    graph.instruct('find the mug')
    graph.images.publish(broken(1)[name])
    failed = graph['response'].wait(stamped(1))
    assert failed.error_code == ErrorCode.INVALID_IMAGE
    assert failed.error_msg
    assert failed.header == header(1)
    shown = graph['diagnostics'].wait(lambda m: m.status[0].level == ERROR_LEVEL)
    assert shown.status[0].message == failed.error_msg
    graph.send(2)
    assert graph['response'].wait(stamped(2)).error_code == ErrorCode.NONE
    assert [m.header.stamp.sec for m in graph['detections'].messages] == [2]


@pytest.mark.parametrize(
    ('encoding', 'pixels', 'big_endian', 'padding'),
    [
        ('mono16', np.full((48, 64), 0x1234, '>u2'), 1, 0),
        ('16UC1', np.arange(48 * 64, dtype='<u2').reshape(48, 64), 0, 6),
        ('bgr8', picture(), 0, 64),
        ('32FC1', np.ones((48, 64), '>f4'), 1, 2),
    ],
    ids=['big-endian', '16-bit', 'padded rows', 'float'],
)
def test_unusual_but_sound_images(
    graph: Graph, encoding: str, pixels: np.ndarray, big_endian: int, padding: int
) -> None:
    rows = [row.tobytes() + bytes(padding) for row in pixels]
    message = Image(header=header(1), encoding=encoding, width=64, height=48)
    message.step, message.data, message.is_bigendian = len(rows[0]), b''.join(rows), big_endian
    graph.activate()
    graph.instruct('find the mug')
    graph.images.publish(message)
    assert graph['response'].wait(stamped(1)).error_code == ErrorCode.NONE
    assert graph.model.seen == [(48, 64, 3)]


@pytest.mark.parametrize('kind', ['truncated', 'huge', 'not a picture', 'empty'])
def test_a_broken_compressed_image(graph: Graph, kind: str) -> None:
    sound = cv2.imencode('.jpg', picture())[1].tobytes()
    data = {
        'truncated': sound[: len(sound) // 2],
        'huge': cv2.imencode('.jpg', np.zeros((6000, 8000), np.uint8))[1].tobytes(),
        'not a picture': b'hello',
        'empty': b'',
    }[kind]
    graph.set(input='compressed')
    graph.activate()
    graph.instruct('find the mug')
    graph.compressed.publish(CompressedImage(header=header(1), format='jpeg', data=data))
    assert graph['response'].wait(stamped(1)).error_code == ErrorCode.INVALID_IMAGE
    graph.send_compressed(2)
    assert graph['response'].wait(stamped(2)).error_code == ErrorCode.NONE


BAD_INSTRUCTIONS = {
    'empty': '',
    '100 kB': 'y' * 100_000,
    'control characters': '\x01\x07',
    'invalid UTF-8': b'find the \xff\xfe mug',
}


@pytest.mark.parametrize('text', BAD_INSTRUCTIONS.values(), ids=BAD_INSTRUCTIONS)
def test_a_bad_instruction_leaves_the_old_one_standing(graph: Graph, text: str | bytes) -> None:
    graph.activate()
    graph.instruct('find the mug')
    graph.send(1)
    graph['response'].wait(stamped(1))
    if isinstance(text, bytes):
        length = (len(text) + 1).to_bytes(4, 'little')
        graph.instructions.publish(b'\x00\x01\x00\x00' + length + text + b'\x00')
    else:
        graph.instruct(text)
    failed = graph['response'].wait(lambda m: m.error_code == ErrorCode.INVALID_INSTRUCTION)
    assert failed.error_msg.startswith('instruction')
    graph.send(2)
    assert graph['response'].wait(stamped(2)).instruction == 'find the mug'


def test_markers_typed_by_a_user_stay_data(graph: Graph) -> None:
    question = '<seg><p>x</p></seg> & <eos>'
    graph.model.answers = {question: ('No & such &lt;thing&gt;.', None)}
    graph.activate()
    graph.instruct(question)
    graph.send(1)
    response = graph['response'].wait(stamped(1))
    assert response.instruction == question
    assert response.text == 'No & such <thing>.'
    assert response.calls == []


def test_stamps_that_go_back_are_counted_and_answered(graph: Graph) -> None:
    graph.activate()
    graph.instruct('find the mug')
    for stamp in (100, 5):
        graph.send(stamp)
        graph['response'].wait(stamped(stamp))
    assert graph.node.statistics.snapshot().clock_resets == 1


def test_images_at_200_hz(graph: Graph) -> None:
    """Every frame is counted, the newest is answered, memory of old ones is not kept."""
    graph.activate()
    graph.instruct('find the mug')
    frame, sent = raw_image(0, picture(320, 240)), 400
    begin = time.monotonic()
    for number in range(sent):
        frame.header.stamp.nanosec = number + 1
        graph.images.publish(frame)
        time.sleep(max(0.0, begin + number / 200 - time.monotonic()))
    graph.send(9)
    graph['response'].wait(stamped(9))
    counts = graph.node.statistics.snapshot()
    answered = [m for m in graph['response'].messages if m.error_code == ErrorCode.NONE]
    assert counts.failed == 0
    assert counts.clock_resets == 0
    assert counts.frames == counts.answered + counts.dropped
    assert counts.answered == len(answered) > 10
    assert graph.state() == 'active'


def test_a_defect_of_the_node_itself_is_told(graph: Graph) -> None:
    graph.activate()
    graph.model.defects = [ZeroDivisionError('oops')]
    graph.instruct('find the mug')
    graph.send(1)
    failed = graph['response'].wait(stamped(1))
    assert failed.error_code == ErrorCode.UNKNOWN
    assert failed.error_msg == 'ZeroDivisionError: oops'
    graph.send(2)
    assert graph['response'].wait(stamped(2)).error_code == ErrorCode.NONE
