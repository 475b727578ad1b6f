"""Everything that is published about one answer, all with the header of its image.

Label k of the mask image, entry k of the label info and detection k - 1 are the same instance.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unifiedmllm_ros.bridge.detections import detections_message, instances
from unifiedmllm_ros.bridge.error_codes import error_code
from unifiedmllm_ros.bridge.masks import label_info_message, masks_message
from unifiedmllm_ros.bridge.response import response_message
from unifiedmllm_ros.masks import Mask, label_map
from unifiedmllm_ros.perception import Answer
from unifiedmllm_ros.representation import Box, Region

_NOTHING = np.zeros((0, 0), dtype=bool)


@dataclass(frozen=True, eq=False)
class AnswerMessages:
    """The messages of one answer, and the label map (H, W) that `masks` carries."""

    response: Any
    detections: Any
    masks: Any
    label_info: Any
    labels: np.ndarray


def answer_messages(
    answer: Answer,
    size: tuple[int, int],
    header: Any,
    min_confidence: float = 0.0,
    stages: Mapping[str, float] | None = None,
) -> AnswerMessages:
    """Make the messages of an answer about an image of `size` (width, height).

    Boxes below `min_confidence` are left out of detections, masks and label info; the response
    tells all that was said, and which of its calls failed. `stages` replaces those of the answer.
    """
    width, height = size
    found = tuple(instances(answer.response, min_confidence))
    labels, names = label_map(_masks_of(found, answer.masks), height, width)
    response = response_message(
        header,
        answer.instruction,
        answer.response,
        answer.text,
        answer.problems,
        answer.stages if stages is None else stages,
        answer.model.name,
        answer.model.backend,
    )
    if answer.failures:
        response.error_code = error_code(answer.failures[0].error)
        response.error_msg = '; '.join(str(failure.error) for failure in answer.failures)
    return AnswerMessages(
        response,
        detections_message(answer.response, width, height, header, min_confidence),
        masks_message(labels, header),
        label_info_message(names, header, min_confidence),
        labels,
    )


def _masks_of(found: Iterable[tuple[Region, Box]], masks: Iterable[Mask]) -> list[Mask]:
    """Return one mask for each instance, an empty one where no expert made any."""
    by_instance = {(mask.phrase, mask.box.corners): mask for mask in masks}
    return [
        by_instance.get((region.phrase, box.corners), Mask(region.phrase, box, 0, 0, _NOTHING))
        for region, box in found
    ]
