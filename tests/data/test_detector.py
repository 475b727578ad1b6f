"""Any detector of transformers, tiny and untrained: boxes are in range, and named by its labels."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from unifiedmllm_ros.data import dialogues_command
from unifiedmllm_ros.data.detector import Detector, PhraseFinder, ground
from unifiedmllm_ros.data.grounding import from_boxes
from unifiedmllm_ros.errors import ConfigError, ModelFileError
from unifiedmllm_ros.model.protocol import Conversation, ModelInfo, TextChunk
from unifiedmllm_ros.perception import Perceiver

pytest.importorskip('PIL', reason='needs the extra vlm')
transformers = pytest.importorskip('transformers', reason='needs the extra vlm')
# Imported while tests are collected: that takes long, and no test should be timed by it.
YolosForObjectDetection = transformers.YolosForObjectDetection
YolosImageProcessorPil = transformers.YolosImageProcessorPil

LABELS = {0: 'dog', 1: 'blue <car>', 2: 'N/A'}


def save_yolos(folder: Path) -> None:
    """One logit more than classes: softmax with "no object"."""
    config = transformers.YolosConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=[32, 32], patch_size=16, num_detection_tokens=5, id2label=LABELS,
        label2id={v: k for k, v in LABELS.items()},
    )  # fmt: skip
    YolosForObjectDetection(config).save_pretrained(folder)
    size = {'shortest_edge': 32, 'longest_edge': 32}
    YolosImageProcessorPil(size=size).save_pretrained(folder)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('yolos')
    save_yolos(folder)
    return folder


def test_pictures_become_boxes(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / 'images' / 'deep').mkdir(parents=True)
    for name in ('a.png', 'deep/b.jpg'):
        cv2.imwrite(str(tmp_path / 'images' / name), np.full((40, 60, 3), 90, np.uint8))
    (tmp_path / 'images' / 'c.png').write_bytes(b'no picture')
    out = tmp_path / 'boxes.jsonl'
    images, things, unreadable = ground(tmp_path / 'images', out, Detector.load(checkpoint, 0.0))
    found = list(from_boxes(out))
    assert [image.image for image in found] == ['images/a.png', 'images/deep/b.jpg']
    assert images == 2
    assert things == sum(len(image.things) for image in found) > 0
    assert [path.name for path in unreadable] == ['c.png']
    assert {t.phrase for image in found for t in image.things} <= {'dog', 'blue car', 'N/A'}


def test_a_high_threshold_leaves_nothing(checkpoint: Path) -> None:
    picture = np.zeros((32, 32, 3), np.uint8)
    assert not Detector.load(checkpoint, 1.0).find(picture)
    with pytest.raises(ConfigError, match='threshold is 2'):
        Detector.load(checkpoint, 2)


def test_scores_are_the_models_own(checkpoint: Path) -> None:
    """Against the library's post-processing."""
    import torch

    detector = Detector.load(checkpoint, 0.0)
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    inputs = detector.processor(images=picture, return_tensors='pt')
    with torch.inference_mode():
        output = detector.model(**inputs)
    (wanted,) = detector.processor.post_process_object_detection(output, 0.0, [(1, 1)])
    things = detector.find(picture)
    scores = sorted(wanted['scores'].tolist(), reverse=True)
    assert [t.score for t in things] == pytest.approx(scores[: len(things)], abs=1e-3)


def test_any_model_finds_phrases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped model, from the command line."""
    frame = np.full((120, 160, 3), 120, np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), frame)
    parser = argparse.ArgumentParser()
    dialogues_command.add_ground_arguments(parser)
    out = tmp_path / 'boxes.jsonl'
    words = ['--images', str(tmp_path), '--detector', 'tabletop-nano', '--out', str(out)]
    args = parser.parse_args([*words, '--phrases', 'red mug, hammer', '--threads', '1'])
    assert dialogues_command.run_ground(args) == 0
    (found,) = from_boxes(out)
    assert found.image == 'a.png'
    assert {thing.phrase for thing in found.things} <= {'red mug', 'hammer'}
    assert '1 pictures' in capsys.readouterr().out
    with pytest.raises(ConfigError, match='no phrases'):
        PhraseFinder.load('tabletop-nano', [' '])


def test_boxes_below_the_threshold_are_left_out() -> None:
    finder = PhraseFinder(Perceiver(Scripted()), ('dog', 'cat'), 0.5)
    things = finder.find(np.zeros((8, 8, 3), np.uint8))
    assert [(t.phrase, t.score) for t in things] == [('dog', 0.75)]


class Scripted:
    """Finds the dog surely, and a cat hardly."""

    max_tokens = 100
    info = ModelInfo('scripted', 'none')

    def encode(self, image: Any) -> Any:
        return image

    def stream(self, features: Any, conversation: Conversation, cancel: Any) -> Iterator[TextChunk]:
        yield TextChunk('<p>it</p>')
        score = 0.75 if 'dog' in conversation.question else 0.25
        yield TextChunk('<box>[0.100, 0.100, 0.500, 0.500]</box>', score)


def test_what_is_no_detector_is_named(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(ModelFileError, match='image preprocessing'):
        Detector.load(tmp_path)
    with pytest.raises(ConfigError, match='above it'):
        ground(tmp_path, tmp_path / 'deep' / 'boxes.jsonl', Detector.load(checkpoint))
