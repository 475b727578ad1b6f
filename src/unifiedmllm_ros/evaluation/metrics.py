"""Measures of boxes and masks, as the referring-expression literature uses them.

Acc@t is the share of wanted boxes found with an IoU of at least t. cIoU adds up intersections and
unions over a whole data set before it divides (so large things count more), gIoU averages the IoU
of each sample (Lai et al., LISA, 2023; Liu et al., GRES, 2023); a sample where nothing was wanted
and nothing was said counts 1 in gIoU.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.representation import Box


def box_iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    return float(iou_matrix([a], [b])[0, 0])


def iou_matrix(rows: Sequence[Box], columns: Sequence[Box]) -> NDArray[np.float64]:
    """IoU of every box of `rows` with every one of `columns`, (len(rows), len(columns))."""
    a = np.array([box.corners for box in rows]).reshape(-1, 1, 4)
    b = np.array([box.corners for box in columns]).reshape(1, -1, 4)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    intersection = np.prod(np.maximum(sides, 0.0), axis=-1)
    areas = (np.prod(box[..., 2:] - box[..., :2], axis=-1) for box in (a, b))
    union = sum(areas) - intersection
    return np.asarray(intersection / union, dtype=np.float64)


def match(scores: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pair rows with columns one to one so that the sum of their scores is greatest.

    scores: (n, m), none negative. Returns min(n, m) pairs (row, column), by row. The Hungarian
    method with potentials, O(n^2 m) (Kuhn 1955; Jonker and Volgenant 1987).
    """
    rows, columns = scores.shape
    if rows > columns:
        return sorted((row, column) for column, row in match(scores.T))
    cost = -np.asarray(scores, dtype=np.float64)
    row_price, column_price = np.zeros(rows), np.zeros(columns)
    owner = np.full(columns, -1)  # the row of each column
    for row in range(rows):
        _assign(row, cost, owner, row_price, column_price)
    return sorted((int(row), column) for column, row in enumerate(owner) if row >= 0)


def _assign(
    start: int,
    cost: NDArray[np.float64],
    owner: NDArray[np.int64],
    row_price: NDArray[np.float64],
    column_price: NDArray[np.float64],
) -> None:
    """Give the row `start` a column by the cheapest chain of exchanges."""
    columns = cost.shape[1]
    distance = np.full(columns, np.inf)
    came_from = np.full(columns, -1)
    done = np.zeros(columns, dtype=bool)
    row, last, walked = start, -1, 0.0
    while row >= 0:
        reach = walked + cost[row] - row_price[row] - column_price
        nearer = ~done & (reach < distance)
        distance[nearer], came_from[nearer] = reach[nearer], last
        last = int(np.argmin(np.where(done, np.inf, distance)))
        walked = float(distance[last])
        done[last] = True
        row = int(owner[last])
    settled = np.flatnonzero(done & (owner >= 0))
    row_price[owner[settled]] += walked - distance[settled]
    row_price[start] += walked
    column_price[done] -= walked - distance[done]
    while last >= 0:
        previous = int(came_from[last])
        owner[last] = owner[previous] if previous >= 0 else start
        last = previous


def matched_ious(wanted: Sequence[Box], said: Sequence[Box]) -> list[float]:
    """IoU of each wanted box with the said box it is paired with; 0 where it has none.

    The pairing is one to one and has the greatest sum of IoUs.
    """
    ious = [0.0] * len(wanted)
    if wanted and said:
        scores = iou_matrix(wanted, said)
        for row, column in match(scores):
            ious[row] = float(scores[row, column])
    return ious


def accuracy_at(ious: Iterable[float], threshold: float = 0.5) -> float:
    """Return the share of IoUs that reach `threshold`; nan where there are none."""
    reached = [iou >= threshold for iou in ious]
    return float(np.mean(reached)) if reached else float('nan')


def f1_at(wanted: Sequence[Box], said: Sequence[Box], threshold: float = 0.5) -> float:
    """F1 of said boxes against wanted ones, a hit being a pair that reaches `threshold`.

    1 where nothing was wanted and nothing said (GRES, 2023).
    """
    if not wanted and not said:
        return 1.0
    hits = sum(iou >= threshold for iou in matched_ious(wanted, said))
    return 2 * hits / (len(wanted) + len(said))


def mask_iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks of one shape; 1 where both are empty."""
    intersection, union = _overlap(a, b)
    return intersection / union if union else 1.0


def _overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> tuple[int, int]:
    if a.shape != b.shape:
        raise ValueError(f'masks of shapes {a.shape} and {b.shape} cannot be compared: resize one')
    a, b = a.astype(bool), b.astype(bool)
    return int(np.count_nonzero(a & b)), int(np.count_nonzero(a | b))


@dataclass
class MaskScores:
    """Collects mask pairs; `ciou` and `giou` of all so far, nan before the first."""

    intersections: list[int] = field(default_factory=list)
    unions: list[int] = field(default_factory=list)

    def add(self, wanted: NDArray[np.bool_], said: NDArray[np.bool_]) -> float:
        """Add a sample; returns its IoU (1 where both masks are empty)."""
        intersection, union = _overlap(wanted, said)
        self.intersections.append(intersection)
        self.unions.append(union)
        return intersection / union if union else 1.0

    @property
    def ciou(self) -> float:
        """All intersections over all unions."""
        union = sum(self.unions)
        return sum(self.intersections) / union if union else float('nan')

    @property
    def giou(self) -> float:
        """Mean IoU of the samples."""
        ious = [
            intersection / union if union else 1.0
            for intersection, union in zip(self.intersections, self.unions, strict=True)
        ]
        return float(np.mean(ious)) if ious else float('nan')
