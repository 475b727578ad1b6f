"""Question and answer pairs of a scene as one training sequence.

All pairs of a scene share its visual tokens: each pair attends to the picture and to itself
alone, and its positions count as if no other pair were there. One pass over the picture so
teaches as many pairs as fit, and no answer can be copied from a neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor
from unifiedmllm_ros.representation import TASKS

IGNORED = -100
LAYOUT = 'layout'  # the task whose boxes are no things of the picture
BOX_STEPS = (0, 2, 4, 6)  # from a box's first number to its numbers
BOX_DISTANCE = 5  # from a box's last number to the first of the next box of the same phrase


@dataclass(frozen=True)
class Dialogue:
    """Turns that depend on one another: (question, answer in the unified representation)."""

    turns: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Batch:
    """Model inputs and targets of B scenes.

    ids, positions, labels: (B, T), labels already shifted (labels[t] follows ids[t]);
    mask: (B, 1, T, T) bool, true where attention may look; regions_at: (B, T) column of the first
    of the visual tokens that a row should look at: the scene's own, or behind a question those
    that stand there again.

    boxes: (M, 4) the box that is being named or written at rows box_rows (M,) of the flattened
    (B * T) sequence: where a token of a phrase with one box, or a coordinate, is to be predicted.
    edge: (M,) which of x1, y1, x2, y2 it is, -1 in a phrase.

    again: (N,) rows of the flattened sequence at which the visual tokens of a turn stand again;
    turn_boxes: (P, 4) the boxes that turn box_turn (P,) answers with. Turns whose boxes are no
    things of the picture (a layout's) have neither, nor have they rows in box_rows.

    copy_rows: (C,) rows of the flattened sequence at which a token of an argument is to be
    predicted that the question holds, or a number of a box that an earlier answer has;
    copy_columns: (C,) where in the row's own sequence it stands.
    """

    ids: Tensor
    positions: Tensor
    labels: Tensor
    mask: Tensor
    regions_at: Tensor
    boxes: Tensor
    box_rows: Tensor
    edge: Tensor
    again: Tensor
    turn_boxes: Tensor
    box_turn: Tensor
    copy_rows: Tensor
    copy_columns: Tensor


@dataclass
class _Row:
    """One sequence in the making; `group` numbers its dialogues, `points` says whose boxes are
    things of the picture, `turns` are (place of the visual tokens, boxes), `copies` are (place
    before a copied token, place of what it copies)."""

    ids: list[int]
    positions: list[int]
    labels: list[int]
    group: list[int]
    regions_at: list[int]
    points: list[bool]
    turns: list[tuple[int, NDArray[np.float32]]]
    copies: list[tuple[int, int]]

    def extend(self, other: _Row, number: int, start: int) -> None:
        """Append a dialogue, whose positions begin at `start`."""
        offset = len(self.ids)
        self.ids += other.ids
        self.labels += other.labels
        self.positions += range(start, start + len(other.ids))
        self.group += [number] * len(other.ids)
        self.regions_at += [at + offset if at >= 0 else 1 for at in other.regions_at]
        self.points += other.points
        self.turns += [(place + offset, boxes) for place, boxes in other.turns]
        self.copies += [(place + offset, source + offset) for place, source in other.copies]


class AnswerCollator:
    """Builds batches; `length` bounds the tokens of one scene's sequence."""

    def __init__(self, processor: UnifiedMLLMProcessor, length: int = 448) -> None:
        self.processor = processor
        self.length = length
        self.prefix = processor.encode_prefix()
        self.first_number = int(processor.number_ids[0])
        self.phrase_open = processor.token_id('<p>')
        tasks = processor.config.tasks or TASKS
        self.arguments = {processor.token_id(f'<{task}>') for task in tasks}
        self.ends = {self.phrase_open, *(processor.token_id(f'</{task}>') for task in tasks)}
        self.spelling: dict[int, str] = {}
        self.unseen = processor.token_id(f'<{LAYOUT}>')

    def __call__(self, scenes: Sequence[Sequence[Dialogue]]) -> Batch:
        packed = [self._pack(dialogues) for dialogues in scenes]
        longest = max(len(row.ids) for row in packed)
        fills = (
            ('ids', self.processor.pad_id, np.int64),
            ('positions', 0, np.int64),
            ('labels', IGNORED, np.int64),
            ('group', -1, np.int64),
            ('regions_at', 1, np.int64),
            ('points', False, bool),
        )
        columns = {}
        for name, fill, kind in fills:
            columns[name] = np.full((len(packed), longest), fill, kind)
            for table, row in zip(columns[name], packed, strict=True):
                values = getattr(row, name)
                table[: len(values)] = values
        boxes, rows, edge = self._boxes(columns['ids'], columns['labels'], columns['points'])
        turns = [
            (number * longest + place, found)
            for number, row in enumerate(packed)
            for place, found in row.turns
        ]
        counts = [len(found) for _, found in turns]
        turn_boxes = [found for _, found in turns] or [np.zeros((0, 4), np.float32)]
        copies = [
            (number * longest + place, source)
            for number, row in enumerate(packed)
            for place, source in row.copies
        ]
        copied = np.array(copies, np.int64).reshape(-1, 2)
        arrays = (
            columns['ids'],
            columns['positions'],
            columns['labels'],
            attention_mask(columns['group']).numpy(),
            columns['regions_at'],
            boxes,
            rows,
            edge,
            np.array([place for place, _ in turns], np.int64),
            np.concatenate(turn_boxes),
            np.repeat(np.arange(len(turns)), counts),
            copied[:, 0],
            copied[:, 1],
        )
        return Batch(*map(torch.from_numpy, arrays))

    def _dialogue(self, dialogue: Dialogue) -> _Row:
        made = _Row([], [], [], [], [], [], [], [])
        earlier: dict[tuple[int, ...], int] = {}
        for question, answer in dialogue.turns:
            asked = self.processor.encode_question(question)
            said = [*self.processor.encode_answer(answer), self.processor.eos_id]
            points = self.unseen not in said
            start = len(made.ids)
            made.copies += [
                (start + len(asked) + place - 1, start + source)
                for place, source in self._copied(asked, said)
            ]
            for place, box in self._boxes_of(said):
                own = start + len(asked) + place
                source = earlier.setdefault(box, own)
                if source < start:
                    made.copies += [(own + step - 1, source + step) for step in BOX_STEPS]
            again = asked.index(self.processor.image_id) if self._looks_again else -1
            if again >= 0 and points:
                made.turns.append((len(made.ids) + again, self._spelled(said)))
            at = len(made.ids) + again if again >= 0 else -1
            made.regions_at += [-1] * (len(asked) - 1) + [at] * (len(said) + 1)
            made.points += [points] * (len(asked) + len(said))
            made.ids += asked + said
            made.labels += [IGNORED] * (len(asked) - 1) + said + [IGNORED]
        return made

    def _copied(self, asked: Sequence[int], said: Sequence[int]) -> list[tuple[int, int]]:
        """(place in the answer, place in the question) of the words that an argument repeats."""
        opened = [place for place, token in enumerate(said) if token in self.arguments]
        if not opened:
            return []
        start = opened[0] + 1
        ends = (i for i in range(start, len(said)) if said[i] in self.ends)
        argument = [self._spelled_as(token) for token in said[start : next(ends)]]
        question = [self._spelled_as(token) for token in asked]
        matcher = SequenceMatcher(None, argument, question, autojunk=False)
        return [
            (start + block.a + step, block.b + step)
            for block in matcher.get_matching_blocks()
            for step in range(block.size)
        ]

    def _boxes_of(self, said: Sequence[int]) -> list[tuple[int, tuple[int, ...]]]:
        """(place of the first number, ids of the four) of each box."""
        numbers = [i for i, token in enumerate(said) if 0 <= token - self.first_number <= 1000]
        return [(start, tuple(said[start + step] for step in BOX_STEPS)) for start in numbers[::4]]

    def _spelled_as(self, token: int) -> str:
        """A token's text without case and the space before it."""
        if token not in self.spelling:
            text = self.processor.tokenizer.decode([token], skip_special_tokens=True)
            self.spelling[token] = text.strip().lower()
        return self.spelling[token]

    @property
    def _looks_again(self) -> bool:
        return self.processor.config.look_again

    def _spelled(self, said: Sequence[int]) -> NDArray[np.float32]:
        numbers = [i - self.first_number for i in said if 0 <= i - self.first_number <= 1000]
        return (np.array(numbers, np.float32) / np.float32(1000)).reshape(-1, 4)

    def _pack(self, dialogues: Sequence[Dialogue]) -> _Row:
        start = len(self.prefix)
        row = _Row(
            list(self.prefix),
            list(range(start)),
            [IGNORED] * start,
            [0] * start,
            [1] * start,
            [False] * start,
            [],
            [],
        )
        for number, dialogue in enumerate(dialogues, start=1):
            made = self._dialogue(dialogue)
            if len(row.ids) + len(made.ids) <= self.length:
                row.extend(made, number, start)
        return row

    def _boxes(
        self, ids: NDArray[np.int64], labels: NDArray[np.int64], points: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        flat, said = labels.reshape(-1), ids.reshape(-1)
        flat = np.where(points.reshape(-1), flat, IGNORED)
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
