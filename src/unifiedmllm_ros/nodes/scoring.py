"""Scores answers about a recording against its ground truth, and sums them up.

Knows no ROS: an answer comes as boxes, a label map and times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unifiedmllm_ros.evaluation.metrics import MaskScores, accuracy_at, matched_ious
from unifiedmllm_ros.nodes.recording import Question, Truth
from unifiedmllm_ros.representation import Box


@dataclass(frozen=True)
class Score:
    """IoUs of one answer: of each wanted box, and of all wanted pixels together.

    `rejected` is set where nothing was wanted: whether nothing was said.
    """

    box_ious: tuple[float, ...]
    mask_iou: float | None
    rejected: bool | None = None


@dataclass
class Scoreboard:
    """Collects the answers of a replay."""

    latencies_ms: list[float] = field(default_factory=list)
    stages_ms: dict[str, list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    scores: dict[str, list[Score]] = field(default_factory=dict)
    _masks: MaskScores = field(default_factory=MaskScores)

    def score(
        self, question: Question, truth: Truth, boxes: Sequence[Box], labels: np.ndarray
    ) -> Score:
        """Score an answer to a question whose objects are known."""
        wanted = [truth.boxes[name] for name in question.objects if name in truth.boxes]
        if wanted:
            iou = self._masks.add(truth.mask(question.objects), labels > 0)
            score = Score(tuple(matched_ious(wanted, boxes)), iou)
        else:
            score = Score((), None, rejected=not boxes)
        self.scores.setdefault(question.instruction, []).append(score)
        return score

    def time(self, latency_ms: float, stages_ms: dict[str, float]) -> None:
        """Take note of the time from an image's publication to its answer, and of its stages."""
        self.latencies_ms.append(latency_ms)
        for stage, ms in stages_ms.items():
            self.stages_ms.setdefault(stage, []).append(ms)

    def summary(self) -> dict[str, Any]:
        """Return the sums; None where nothing was measured."""
        scores = [score for group in self.scores.values() for score in group]
        ious = [iou for score in scores for iou in score.box_ious]
        rejected = [score.rejected for score in scores if score.rejected is not None]
        return {
            'answers': len(self.latencies_ms),
            'errors': self.errors,
            'latency_ms': percentiles(self.latencies_ms),
            'stages_ms': {stage: percentiles(times) for stage, times in self.stages_ms.items()},
            'boxes': {
                'wanted': len(ious),
                'mean_iou': _mean(ious),
                'acc_at_0.5': _rounded(accuracy_at(ious)) if ious else None,
            },
            'masks': {
                'scored': len(self._masks.unions),
                'mean_iou': _rounded(self._masks.giou) if self._masks.unions else None,
                'ciou': _rounded(self._masks.ciou) if self._masks.unions else None,
            },
            'absent': {'asked': len(rejected), 'rejected': sum(map(bool, rejected))},
            'questions': [_question_line(text, group) for text, group in self.scores.items()],
        }


def percentiles(times_ms: Sequence[float]) -> dict[str, float] | None:
    """Return the 50th and 99th percentile in milliseconds, None of nothing."""
    if not times_ms:
        return None
    p50, p99 = np.percentile(times_ms, [50, 99])
    return {'p50': round(float(p50), 2), 'p99': round(float(p99), 2)}


def _question_line(instruction: str, scores: Sequence[Score]) -> dict[str, Any]:
    rejected = [score.rejected for score in scores if score.rejected is not None]
    return {
        'instruction': instruction,
        'answers': len(scores),
        'box_iou': _mean([iou for score in scores for iou in score.box_ious]),
        'mask_iou': _mean([score.mask_iou for score in scores if score.mask_iou is not None]),
        'rejected': sum(map(bool, rejected)) if rejected else None,
    }


def _mean(values: Sequence[float]) -> float | None:
    return _rounded(float(np.mean(values))) if values else None


def _rounded(value: float) -> float:
    return round(value, 4)
