"""Images and sentences in, answers out: real node, real DDS, scripted model."""

from __future__ import annotations

import threading

import numpy as np

from tests.nodes.graph import Graph, stamped
from unifiedmllm_ros.msg import ErrorCode


def labels_of(message: object) -> np.ndarray:
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)


def test_one_image_and_one_sentence_give_answer_boxes_and_masks(graph: Graph) -> None:
    graph.activate()
    graph.instruct('find the mug')
    graph.send(7)
    response = graph['response'].wait(stamped(7))
    assert response.header.frame_id == 'camera'
    assert response.instruction == 'find the mug'
    assert response.text == 'The mug is here.'
    assert response.raw == graph.model.answers['find the mug'][0]
    assert [region.phrase for region in response.regions] == ['red mug']
    assert response.calls[0].task == 'seg'
    assert response.model == 'scripted'
    assert response.error_code == ErrorCode.NONE
    assert {stage.stage for stage in response.stages} >= {'decode_image', 'encode', 'decode'}

    detections = graph['detections'].wait(stamped(7))
    assert detections.header == response.header
    (detection,) = detections.detections
    assert detection.header == response.header
    assert detection.results[0].hypothesis.class_id == 'red mug'
    assert abs(detection.results[0].hypothesis.score - 0.9) < 1e-6
    assert (detection.bbox.center.position.x, detection.bbox.center.position.y) == (24.0, 18.0)
    assert (detection.bbox.size_x, detection.bbox.size_y) == (16.0, 12.0)

    masks = graph['masks'].wait(stamped(7))
    assert masks.header == response.header
    assert masks.encoding == 'mono8'
    labels = labels_of(masks)
    assert labels.shape == (48, 64)
    assert labels.sum() == labels[12:24, 16:32].sum() == 12 * 16

    info = graph['label_info'].wait(stamped(7))
    assert [(entry.class_id, entry.class_name) for entry in info.class_map] == [(1, 'red mug')]


def test_labels_are_numbered_as_the_detections(graph: Graph) -> None:
    graph.set(mask_all=True)
    graph.activate()
    graph.instruct('find all bowls')
    graph.send(1)
    labels = labels_of(graph['masks'].wait(stamped(1)))
    detections = graph['detections'].wait(stamped(1)).detections
    assert len(detections) == 2
    for number, detection in enumerate(detections, start=1):
        center = detection.bbox.center.position
        assert labels[int(center.y), int(center.x)] == number
    names = [entry.class_name for entry in graph['label_info'].wait(stamped(1)).class_map]
    assert names == ['bowl', 'bowl']


def test_nothing_found_is_an_empty_array_not_silence(graph: Graph) -> None:
    graph.activate()
    graph.instruct('is there a hammer?')
    graph.send(3)
    assert graph['response'].wait(stamped(3)).text == 'There is no hammer.'
    assert graph['detections'].wait(stamped(3)).detections == []
    assert not any(graph['masks'].wait(stamped(3)).data)
    assert graph['label_info'].wait(stamped(3)).class_map == []


def test_the_instruction_stands_and_can_be_replaced(graph: Graph) -> None:
    graph.activate()
    graph.instruct('find the mug')
    for stamp in (1, 2):
        graph.send(stamp)
        assert graph['response'].wait(stamped(stamp)).instruction == 'find the mug'
    graph.instruct('is there a hammer?')
    # The newest image is asked about at once.
    again = graph['response'].wait(lambda m: m.instruction == 'is there a hammer?')
    assert again.header.stamp.sec == 2
    graph.send(3)
    assert graph['response'].wait(stamped(3)).instruction == 'is there a hammer?'


def test_without_instruction_nothing_is_asked(graph: Graph) -> None:
    graph.activate()
    graph.send(1)
    result, _ = graph.ask('is there a hammer?')
    assert result.result.response.header.stamp.sec == 1
    assert graph.model.asked == ['is there a hammer?']
    assert graph['response'].messages == []


def test_one_thread_does_all_the_inference(graph: Graph) -> None:
    graph.activate()
    graph.instruct('find the mug')
    graph.send(1)
    graph['response'].wait(stamped(1))
    graph.ask('find the mug')
    assert len(graph.model.threads) == 1
    assert graph.thread.ident not in graph.model.threads
    assert threading.get_ident() not in graph.model.threads


def test_the_newest_frame_wins_and_drops_are_counted(graph: Graph) -> None:
    graph.activate()
    graph.instruct('find the mug')
    graph.model.gate.clear()
    graph.send(1)
    assert graph.model.started.wait(10)
    for stamp in range(2, 6):
        graph.send(stamp)
    graph['diagnostics'].wait(lambda m: value(m, 'frames') == '5')
    graph.model.gate.set()
    graph['response'].wait(stamped(5))
    assert [m.header.stamp.sec for m in graph['response'].messages] == [1, 5]
    assert graph.node.statistics.snapshot().dropped == 3


def value(message: object, key: str) -> str:
    return next(item.value for item in message.status[0].values if item.key == key)
