"""The mask network that ships, on the sample recording: masks from true boxes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.sample_frames import sample_frames
from unifiedmllm_ros.evaluation.metrics import MaskScores
from unifiedmllm_ros.experts.base import SegmentationResult
from unifiedmllm_ros.representation import Region, TaskCall
from unifiedmllm_ros.router import Router


@pytest.mark.parametrize('scale', [1.0, 0.5])
def test_it_outlines_the_things_in_true_boxes(scale: float) -> None:
    import cv2

    router = Router.from_file()
    scores = MaskScores()
    for frame in sample_frames(60):
        size = round(640 * scale), round(480 * scale)
        image = np.asarray(cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA), np.uint8)
        regions = tuple(Region(name, (box,)) for name, box in frame.boxes.items())
        result = router.run(TaskCall('seg', '', regions), image)
        assert isinstance(result, SegmentationResult)
        for mask in result.masks:
            wanted = frame.masks[mask.phrase].astype(np.uint8)
            wanted = cv2.resize(wanted, size, interpolation=cv2.INTER_NEAREST)
            scores.add(wanted > 0, mask.full(size[1], size[0]))
    assert scores.ciou >= 0.80
    assert scores.giou >= 0.80
    assert result.provenance.expert == 'mask_network'
