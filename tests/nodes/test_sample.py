"""The sample recording: what is read from it agrees with its ground truth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from tests.nodes.scripted import ScriptedModel, scripted_perceiver
from unifiedmllm_ros.bridge.detections import detections_message
from unifiedmllm_ros.bridge.detections_3d import Pinhole, detections_3d_message
from unifiedmllm_ros.bridge.image import compressed_to_rgb, depth_to_metres
from unifiedmllm_ros.locations import share
from unifiedmllm_ros.model.protocol import Conversation, TextChunk
from unifiedmllm_ros.nodes import demo
from unifiedmllm_ros.nodes.recording import Recording
from unifiedmllm_ros.representation import Region, Response, TaskCall, format


@pytest.fixture(scope='module')
def sample() -> Recording:
    return Recording(share('samples/tabletop'))


def test_frames_and_truth_go_together(sample: Recording) -> None:
    assert len(sample.frames) >= 150
    assert len([frame for frame in sample.frames if 'depth' in frame.messages]) > 0
    stamps = [frame.stamp_ns for frame in sample.frames]
    assert stamps == sorted(stamps)
    lines = (sample.folder / 'ground_truth.jsonl').read_text().splitlines()
    assert [json.loads(line)['stamp'] for line in lines] == stamps
    image = deserialize_message(sample.frames[9].messages['image'], CompressedImage)
    truth = sample.truth(9)
    assert compressed_to_rgb(image).shape[:2] == truth.labels.shape
    assert set(np.unique(truth.labels)) - {0} == set(truth.indices.values())
    for name, box in truth.boxes.items():
        rows, columns = np.nonzero(truth.mask((name,)))
        height, width = truth.labels.shape
        edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert np.allclose(box.pixels(width, height), edges, atol=0.6)


def test_every_question_names_objects_of_the_scene(sample: Recording) -> None:
    assert len(sample.questions) >= 4
    assert any(question.objects == () for question in sample.questions)
    for question in sample.questions:
        assert set(question.objects) <= set(sample.truth(0).boxes)


def test_depth_puts_objects_where_they_are(sample: Recording) -> None:
    index = next(i for i, frame in enumerate(sample.frames) if 'depth' in frame.messages)
    messages, truth = sample.frames[index].messages, sample.truth(index)
    depth = depth_to_metres(deserialize_message(messages['depth'], Image))
    info = deserialize_message(messages['camera_info'], CameraInfo)
    height, width = truth.labels.shape
    response = Response(tuple(Region(name, (box,)) for name, box in truth.boxes.items()))
    found = detections_message(response, width, height, info.header)
    lifted = detections_3d_message(
        found, (width, height), depth, Pinhole.from_camera_info(info), truth.labels
    ).detections
    assert len(lifted) == len(truth.boxes)
    lines = (sample.folder / 'ground_truth.jsonl').read_text().splitlines()
    records = {record['name']: record for record in json.loads(lines[index])['objects']}
    for detection in lifted:
        record = records[detection.results[0].hypothesis.class_id]
        center = detection.bbox.center.position
        distance = np.linalg.norm(
            np.subtract([center.x, center.y, center.z], record['position_camera'])
        )
        # What is seen is the near side of a thing, its position the middle.
        assert distance < max(record['size']) * 0.75 + 0.02, record['name']


class TruthfulModel(ScriptedModel):
    """Says what the ground truth says of the image it is shown."""

    def __init__(self, sample: Recording, frames: int) -> None:
        super().__init__()
        self._sample = sample
        self._questions = {question.instruction: question for question in sample.questions}
        self._indices = {}
        for index, _ in demo.plan(sample, frames, None):
            image = deserialize_message(sample.frames[index].messages['image'], CompressedImage)
            self._indices[compressed_to_rgb(image).tobytes()] = index

    def stream(
        self, features: np.ndarray, conversation: Conversation, cancel: object
    ) -> Iterator[TextChunk]:
        boxes = self._sample.truth(self._indices[features.tobytes()]).boxes
        names = self._questions[conversation.question].objects
        regions = tuple(Region(name, (boxes[name],)) for name in names)
        yield TextChunk(format(Response((TaskCall('seg', '', regions),) if regions else ('No.',))))


def test_the_truth_scores_full_marks(sample: Recording, tmp_path: Path) -> None:
    frames = len(sample.questions)
    model = TruthfulModel(sample, frames)
    summary = demo.run(
        sample, tmp_path, frames=frames, perceiver_factory=lambda _: scripted_perceiver(model)
    )
    assert summary['answers'] == frames
    assert summary['errors'] == []
    assert summary['boxes']['mean_iou'] > 0.98
    assert summary['masks']['mean_iou'] > 0.4  # the masks of this test are the boxes
    assert summary['absent']['asked'] == summary['absent']['rejected'] > 0
