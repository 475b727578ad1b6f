"""Boxes of an answer as vision_msgs, in pixels of the image they were found in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    ObjectHypothesisWithPose,
)

from unifiedmllm_ros.representation import Box, Region, Response

UNKNOWN_CONFIDENCE = 1.0
"""Score of a box whose model gives no confidence."""


def confidence(box: Box) -> float:
    """Return the box's confidence in [0, 1], `UNKNOWN_CONFIDENCE` where there is none."""
    return UNKNOWN_CONFIDENCE if box.confidence is None else box.confidence


def instances(response: Response, min_confidence: float = 0.0) -> Iterator[tuple[Region, Box]]:
    """Yield each distinct (region, box) that is at least as sure as `min_confidence`, in order.

    A thing that an answer first points at and then segments is one instance.
    """
    seen = set()
    for region in response.regions:
        for box in region.boxes:
            key = (region.phrase, box.corners)
            if key not in seen and confidence(box) >= min_confidence:
                seen.add(key)
                yield region, box


def detections_message(
    response: Response, width: int, height: int, header: Any, min_confidence: float = 0.0
) -> Detection2DArray:
    """Make the detections of an answer about an image of `width` x `height` pixels.

    `class_id` is the phrase, `score` the confidence; `id` stays empty, as nothing is tracked.
    The array is empty when nothing was found.
    """
    message = Detection2DArray(header=header)
    message.detections = [
        _detection(region.phrase, box, width, height, header)
        for region, box in instances(response, min_confidence)
    ]
    return message


def _detection(phrase: str, box: Box, width: int, height: int, header: Any) -> Detection2D:
    left, top, right, bottom = box.pixels(width, height)
    bounds = BoundingBox2D(size_x=right - left, size_y=bottom - top)
    bounds.center.position.x = (left + right) / 2
    bounds.center.position.y = (top + bottom) / 2
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = phrase
    hypothesis.hypothesis.score = confidence(box)
    return Detection2D(header=header, results=[hypothesis], bbox=bounds)
