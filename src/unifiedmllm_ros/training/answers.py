"""Question and answer pairs of a scene as one training sequence.

All pairs of a scene share its visual tokens: each pair attends to the picture and to itself
alone, and its positions count as if no other pair were there. One pass over the picture so
teaches as many pairs as fit, and no answer can be copied from a neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor

IGNORED = -100
BOX_DISTANCE = 5  # from a box's last number to the first of the next box of the same phrase


@dataclass(frozen=True)
class Dialogue:
    """Turns that depend on one another: (question, answer in the unified representation)."""

    turns: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Batch:
    """Model inputs and targets of B scenes.

    ids, positions, labels: (B, T), labels already shifted (labels[t] follows ids[t]);
    mask: (B, 1, T, T) bool, true where attention may look; boxes: (M, 4) the box that is being
    named or written at rows box_rows (M,) of the flattened (B * T) sequence: where a token of a
    phrase with one box, or a coordinate, is to be predicted. edge: (M,) which of x1, y1, x2, y2 it
    is, -1 in a phrase.
    """

    ids: Tensor
    positions: Tensor
    labels: Tensor
    mask: Tensor
    boxes: Tensor
    box_rows: Tensor
    edge: Tensor


@dataclass(frozen=True)
class _Pair:
    ids: list[int]
    labels: list[int]


class AnswerCollator:
    """Builds batches; `length` bounds the tokens of one scene's sequence."""

    def __init__(self, processor: UnifiedMLLMProcessor, length: int = 448) -> None:
        self.processor = processor
        self.length = length
        self.prefix = processor.encode_prefix()
        self.first_number = int(processor.number_ids[0])
        self.phrase_open = processor.token_id('<p>')

    def __call__(self, scenes: Sequence[Sequence[Dialogue]]) -> Batch:
        packed = [self._pack(dialogues) for dialogues in scenes]
        longest = max(len(ids) for ids, *_ in packed)
        shape = (len(packed), longest)
        ids = np.full(shape, self.processor.pad_id, np.int64)
        positions = np.zeros(shape, np.int64)
        labels = np.full(shape, IGNORED, np.int64)
        group = np.full(shape, -1, np.int64)
        for row, (row_ids, row_positions, row_labels, row_group) in enumerate(packed):
            size = len(row_ids)
            ids[row, :size], positions[row, :size] = row_ids, row_positions
            labels[row, :size], group[row, :size] = row_labels, row_group
        boxes, rows, edge = self._boxes(ids, labels)
        return Batch(
            torch.from_numpy(ids),
            torch.from_numpy(positions),
            torch.from_numpy(labels),
            attention_mask(group),
            torch.from_numpy(boxes),
            torch.from_numpy(rows),
            torch.from_numpy(edge),
        )

    def _pair(self, dialogue: Dialogue) -> _Pair:
        ids: list[int] = []
        labels: list[int] = []
        for question, answer in dialogue.turns:
            asked = self.processor.encode_question(question)
            said = [*self.processor.encode_answer(answer), self.processor.eos_id]
            ids += asked + said
            labels += [IGNORED] * (len(asked) - 1) + said + [IGNORED]
        return _Pair(ids, labels)

    def _pack(self, dialogues: Sequence[Dialogue]) -> tuple[list[int], ...]:
        ids = list(self.prefix)
        start = len(ids)
        positions, labels, group = list(range(start)), [IGNORED] * start, [0] * start
        for number, dialogue in enumerate(dialogues, start=1):
            pair = self._pair(dialogue)
            if len(ids) + len(pair.ids) > self.length:
                continue
            ids += pair.ids
            labels += pair.labels
            positions += range(start, start + len(pair.ids))
            group += [number] * len(pair.ids)
        return ids, positions, labels, group

    def _boxes(
        self, ids: NDArray[np.int64], labels: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        flat, said = labels.reshape(-1), ids.reshape(-1)
        numbers = (flat >= self.first_number) & (flat <= self.first_number + 1000)
        # A box's four numbers stand two tokens apart.
        rows = np.flatnonzero(numbers).reshape(-1, 4)
        corners = ((flat[rows] - self.first_number) / 1000).astype(np.float32)
        boxes, places = [np.repeat(corners, 4, axis=0)], [rows.reshape(-1)]
        edges = [np.tile(np.arange(4), len(rows))]
        opens = np.flatnonzero((said == self.phrase_open) & (flat != IGNORED))
        for start in opens:
            box = int(np.searchsorted(rows[:, 0], start))
            several = box + 1 < len(rows) and rows[box + 1, 0] - rows[box, 3] == BOX_DISTANCE
            if not several:
                phrase = np.arange(start, rows[box, 0])
                boxes.append(np.repeat(corners[box : box + 1], len(phrase), axis=0))
                places.append(phrase)
                edges.append(np.full(len(phrase), -1))
        return np.concatenate(boxes), np.concatenate(places), np.concatenate(edges)


def attention_mask(group: NDArray[np.int64]) -> Tensor:
    """(B, T) group numbers -> (B, 1, T, T) bool; group 0 is the shared prefix, -1 padding."""
    groups = torch.from_numpy(group)
    same = groups.unsqueeze(2) == groups.unsqueeze(1)
    prefix = (groups == 0).unsqueeze(1)
    size = group.shape[1]
    causal = torch.ones(size, size, dtype=torch.bool).tril()
    # A padded row sees itself, or its softmax would be over nothing.
    return ((same | prefix) & causal | torch.eye(size, dtype=torch.bool)).unsqueeze(1)
