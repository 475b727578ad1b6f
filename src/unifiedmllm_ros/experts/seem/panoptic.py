"""Every pixel in one segment: the panoptic merge of class and mask logits."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Segment:
    """One segment: its number in the map (from 1), whether it is a countable thing, its class."""

    id: int
    thing: bool
    label: int


def semantic(class_logits: Any, mask_logits: Any) -> Any:
    """(queries, classes + background), (queries, h, w) -> scores of the classes (classes, h, w)."""
    shares = class_logits.softmax(dim=-1)[:, :-1]
    return torch.einsum('qc,qhw->chw', shares, mask_logits.sigmoid())


def panoptic(
    class_logits: Any,
    mask_logits: Any,
    things: Collection[int],
    score: float = 0.4,
    overlap: float = 0.8,
) -> tuple[Any, tuple[Segment, ...]]:
    """Return the map of segment numbers, (h, w) int32 with 0 for none, and the segments.

    score: least score of a query; overlap: least share of a query's mask that no better query
    takes. Queries of one class that is no thing become one segment (Cheng et al., 2021).
    """
    scores, labels = class_logits.softmax(dim=-1).max(dim=-1)
    kept = (labels != class_logits.shape[-1] - 1) & (scores > score)
    masks, labels = mask_logits[kept].sigmoid(), labels[kept].tolist()
    numbers = torch.zeros(mask_logits.shape[-2:], dtype=torch.int32, device=mask_logits.device)
    if not labels:
        return numbers, ()
    owner = (scores[kept][:, None, None] * masks).argmax(dim=0)
    segments: list[Segment] = []
    for index, label in enumerate(labels):
        own, whole = owner == index, masks[index] >= 0.5
        inside = own & whole
        if not inside.any() or int(own.sum()) / int(whole.sum()) < overlap:
            continue
        segment = _merged(segments, label) if label not in things else None
        if segment is None:
            segment = Segment(len(segments) + 1, label in things, label)
            segments.append(segment)
        numbers[inside] = segment.id
    return numbers, tuple(segments)


def _merged(segments: list[Segment], label: int) -> Segment | None:
    return next((one for one in segments if one.label == label), None)
