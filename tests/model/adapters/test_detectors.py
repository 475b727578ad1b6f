"""Detectors: phrases in, boxes and scores out."""

from __future__ import annotations

import math

from unifiedmllm_ros.model.adapters.base import MAX_BOXES, NOTHING, FlawKind, Size
from unifiedmllm_ros.model.adapters.detectors import Detection
from unifiedmllm_ros.model.adapters.registry import DETECTORS
from unifiedmllm_ros.representation import Box

DINO, OWL = DETECTORS['grounding-dino'], DETECTORS['owlv2']
WIDE = Size(800, 400)


def test_texts():
    assert DINO.texts('find the Red Mug and the plate') == ('red mug. plate.',)
    assert OWL.texts('find the red mug and the plate') == (
        'a photo of a red mug',
        'a photo of a plate',
    )


def test_grounding_dino_counts_from_the_centre_of_the_image():
    got = DINO.parse([Detection('red mug.', 0.75, (0.5, 0.5, 0.5, 0.5))], WIDE)
    (region,) = got.response.regions
    assert region.phrase == 'red mug'
    assert region.boxes == (Box(0.25, 0.25, 0.75, 0.75),)
    assert region.boxes[0].confidence == 0.75


def test_owl_counts_in_the_padded_square():
    got = OWL.parse([Detection('a photo of a mug', 0.9, (0.5, 0.25, 0.5, 0.25))], WIDE)
    (region,) = got.response.regions
    assert region.phrase == 'mug'
    assert region.boxes == (Box(0.25, 0.25, 0.75, 0.75),)


def test_weak_and_broken_detections():
    found = [
        Detection('a', 0.1, (0.5, 0.5, 0.1, 0.1)),
        Detection('b', math.nan, (0.5, 0.5, 0.1, 0.1)),
        Detection('c', 0.9, (math.nan, 0.5, 0.1, 0.1)),
    ]
    got = DINO.parse(found, WIDE, question='find a')
    assert got.response.parts == (NOTHING,)
    assert [flaw.kind for flaw in got.flaws] == [FlawKind.MALFORMED]


def test_the_surest_of_ten_thousand_are_kept():
    found = [Detection('a', 0.3 + n * 1e-5, (0.5, 0.5, 0.1, 0.1)) for n in range(10_000)]
    got = DINO.parse(found, WIDE, question='segment a')
    boxes = got.response.calls[0].regions[0].boxes
    assert len(boxes) == MAX_BOXES
    assert min(box.confidence for box in boxes) > 0.39
    assert [flaw.kind for flaw in got.flaws] == [FlawKind.TOO_MANY]
