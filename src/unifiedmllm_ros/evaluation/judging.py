"""Whether an answer to a question about the simulated table is right, and in what it is.

A question says what it is judged by (`Question.judged`). Boxes are right at a threshold where the
answer has as many boxes as there are targets and each target is met by a box of its own. A layout
is right where its classes have the numbers of the sentence and stand as it says, by the rules of
NSR-1K; the boxes of the generator are one of many right answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.evaluation.metrics import matched_ious
from unifiedmllm_ros.evaluation.nsr1k import XYWH, score_counts, score_spatial
from unifiedmllm_ros.perception import Answer
from unifiedmllm_ros.representation import Region, Response
from unifiedmllm_ros.tabletop.asked import Arrangement
from unifiedmllm_ros.tabletop.catalogue import CATALOGUE
from unifiedmllm_ros.tabletop.questions import Question
from unifiedmllm_ros.tabletop.record import SceneRecord

RELATIONS = {
    'left of': 'left',
    'right of': 'right',
    'above': 'top',
    'below': 'bottom',
    'next to': 'next to',
}
"""Our relations as NSR-1K calls them."""


@dataclass(frozen=True)
class Outcome:
    """One answered question. `ious` has one value for each target, 0 where none met it;
    `mask` is (intersection, union) in pixels where masks were asked for; `argument_right`,
    `numerical` and `spatial` are None where a question is not judged by them. `relation` is the
    question's: of a back-reference what it refers to and asks for."""

    kind: str
    task: str
    needed: bool
    held_out: bool
    boxes_right: bool
    ious: tuple[float, ...]
    prose_right: bool
    task_right: bool
    problems: int
    mask: tuple[int, int] | None
    seconds: float
    argument_right: bool | None = None
    numerical: bool | None = None
    spatial: bool | None = None
    relation: str = ''

    def right(self, threshold: float) -> bool:
        """Right in all that the question is judged by, every box met at this IoU."""
        met = self.boxes_right and all(value >= threshold for value in self.ious)
        others = (self.argument_right, self.numerical, self.spatial)
        return met and self.prose_right and all(value is not False for value in others)

    @property
    def complete(self) -> bool:
        """Right at IoU 0.5, with the right tasks called."""
        return self.task_right and self.right(0.5)


def judge(scene: SceneRecord, question: Question, answer: Answer, owners: NDArray) -> Outcome:
    """Compare an answer with the ground truth. `owners`: the scene's (H, W) mask image."""
    said, wanted = answer.response, question.answer
    by = question.judged
    boxes_right, ious = _boxes(said, wanted) if 'boxes' in by or not wanted.regions else (True, ())
    numerical, spatial = (
        arranged(said.regions, question.arrangement) if question.arrangement else (None, None)
    )
    targets = [scene.objects[index] for index in question.targets]
    masked = question.task == 'seg' and question.targets
    return Outcome(
        kind=question.kind,
        task=question.task,
        needed=question.needed,
        held_out=any(CATALOGUE[thing.name].held_out for thing in targets),
        boxes_right=boxes_right,
        ious=ious,
        prose_right=_prose(said.text, wanted.text, by),
        task_right=[c.task for c in said.calls] == [c.task for c in wanted.calls],
        problems=len(answer.problems),
        mask=_mask_overlap(answer, question, owners) if masked else None,
        seconds=sum(answer.stages.values()) / 1000,
        argument_right=_arguments(said) == _arguments(wanted) if 'argument' in by else None,
        numerical=numerical,
        spatial=spatial,
        relation=question.relation,
    )


def arranged(regions: tuple[Region, ...], wanted: Arrangement) -> tuple[bool, bool | None]:
    """Whether a layout has the numbers, and every relation (None: the sentence states none)."""
    layout = [(region.phrase, _xywh(box.corners)) for region in regions for box in region.boxes]
    numbers = score_counts(layout, wanted.counts).accuracy == 1.0
    if not wanted.relations:
        return numbers, None
    held = [score_spatial(layout, a, b, RELATIONS[how]) for a, how, b in wanted.relations]
    return numbers, all(verdict is True for verdict in held)


def _xywh(corners: tuple[float, float, float, float]) -> XYWH:
    x1, y1, x2, y2 = corners
    return x1, y1, x2 - x1, y2 - y1


def _boxes(said: Response, wanted: Response) -> tuple[bool, tuple[float, ...]]:
    these = [box for region in said.regions for box in region.boxes]
    those = [box for region in wanted.regions for box in region.boxes]
    return len(these) == len(those), tuple(matched_ious(those, these))


def _prose(said: str, wanted: str, by: tuple[str, ...]) -> bool:
    if 'words' in by:
        return said.split() == wanted.split()
    # What decides is the first word or number: yes, no, how many, or that there is none.
    return 'prose' not in by or said.split()[:3] == wanted.split()[:3]


def _arguments(response: Response) -> list[tuple[str, list[str]]]:
    return [(call.task, call.argument.split()) for call in response.calls]


def _mask_overlap(answer: Answer, question: Question, owners: NDArray) -> tuple[int, int]:
    said = np.zeros(owners.shape, dtype=bool)
    for mask in answer.masks:
        said[mask.window] |= mask.pixels
    wanted = np.isin(owners, [index + 1 for index in question.targets])
    return int((said & wanted).sum()), int((said | wanted).sum())
