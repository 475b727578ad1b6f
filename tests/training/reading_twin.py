"""A batch of one question that the tests of reading regions share."""

from __future__ import annotations

import numpy as np
import torch

from tests.model.twin import twin_processor
from unifiedmllm_ros.model.regions import Regions
from unifiedmllm_ros.training.answers import AnswerCollator, Batch, Dialogue

PROCESSOR = twin_processor()


def fixed_batch(size: int, rng: np.random.Generator) -> tuple[Batch, Regions]:
    pair = ('find the red mug', '<p>red mug</p><box>[0.100, 0.200, 0.300, 0.400]</box>')
    batch = AnswerCollator(PROCESSOR)([[Dialogue((pair,))]] * size)
    boxes = torch.tensor([[0.1, 0.2, 0.3, 0.4]] + [[0.5, 0.5, 0.9, 0.9]] * 4).repeat(size, 1, 1)
    words = torch.zeros(size, 5, 4)
    words[:, 0, 2:] = 1
    score = torch.full((size, 5), 0.5)
    return batch, Regions(score, boxes, words, torch.zeros(size, 5, 3), torch.zeros(size, 5, 16))
