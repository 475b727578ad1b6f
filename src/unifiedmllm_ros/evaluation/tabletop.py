"""The benchmark of the simulated table: expressions of every kind on scenes held out for testing.

The whole path is measured: picture file, perceiver, text, boxes, masks. A question with boxes is
right at a threshold where the answer has as many boxes as there are targets and each target is
met by a box of its own; for one target that is the usual Acc@threshold, and any further box makes
the answer wrong.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from unifiedmllm_ros.evaluation.metrics import matched_ious
from unifiedmllm_ros.perception import Answer, Perceiver
from unifiedmllm_ros.tabletop.catalogue import CATALOGUE
from unifiedmllm_ros.tabletop.pictures import read_owners, read_picture
from unifiedmllm_ros.tabletop.questions import Question, questions
from unifiedmllm_ros.tabletop.record import SceneRecord, read_scenes

GROUNDED = ('name', 'colour', 'relation', 'order', 'superlative', 'use', 'several')


@dataclass(frozen=True)
class TabletopTest:
    """Which scenes and questions: `scenes` limits the number, `phrasings` is train or test."""

    data: Path
    scenes: int | None = None
    questions: int = 12
    phrasings: str = 'test'
    seed: int = 0

    def __iter__(self) -> Iterator[tuple[SceneRecord, list[Question]]]:
        for number, scene in enumerate(read_scenes(self.data / 'scenes.jsonl')):
            if number == self.scenes:
                return
            # A seed of its own for each scene: leaving one out changes no other.
            rng = Random(f'{self.seed}-{scene.id}')
            yield scene, questions(scene, rng, self.phrasings, count=self.questions)


@dataclass(frozen=True)
class Outcome:
    """One answered question. `ious` has one value for each target, 0 where none met it;
    `mask` is (intersection, union) in pixels where masks were asked for."""

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

    def right(self, threshold: float) -> bool:
        """Boxes as many as targets, every one met at this IoU, and the prose right."""
        return (
            self.boxes_right and self.prose_right and all(value >= threshold for value in self.ious)
        )


def judge(scene: SceneRecord, question: Question, answer: Answer, owners: NDArray) -> Outcome:
    """Compare an answer with the ground truth. `owners`: the scene's (H, W) mask image."""
    said = [box for region in answer.response.regions for box in region.boxes]
    wanted = [box for region in question.answer.regions for box in region.boxes]
    targets = [scene.objects[index] for index in question.targets]
    return Outcome(
        kind=question.kind,
        task=question.task,
        needed=question.needed,
        held_out=any(CATALOGUE[thing.name].held_out for thing in targets),
        boxes_right=len(said) == len(wanted),
        ious=tuple(matched_ious(wanted, said)),
        prose_right=_same_prose(answer.response.text, question.answer.text),
        task_right=[c.task for c in answer.response.calls]
        == [c.task for c in question.answer.calls],
        problems=len(answer.problems),
        mask=_mask_overlap(answer, question, owners) if question.task == 'seg' else None,
        seconds=sum(answer.stages.values()) / 1000,
    )


def _same_prose(said: str, wanted: str) -> bool:
    # What decides is the first word or number: yes, no, how many, or that there is none.
    return said.split()[:3] == wanted.split()[:3]


def _mask_overlap(answer: Answer, question: Question, owners: NDArray) -> tuple[int, int]:
    said = np.zeros(owners.shape, dtype=bool)
    for mask in answer.masks:
        said[mask.window] |= mask.pixels
    wanted = np.isin(owners, [index + 1 for index in question.targets])
    return int((said & wanted).sum()), int((said | wanted).sum())


def evaluate(
    test: TabletopTest, model: str, threads: int = 2, failures: Path | None = None
) -> dict[str, Any]:
    """Run the benchmark with a model by name or folder; returns the report."""
    perceiver = Perceiver.load(model, threads=threads)
    outcomes: list[Outcome] = []
    started = time.monotonic()
    wrong = failures.open('w') if failures else None
    scenes = 0
    for scene, asked in tqdm(test, desc='scenes', unit='scene', mininterval=2):
        scenes += 1
        perceiver.set_image(read_picture(test.data, scene))
        owners = read_owners(test.data, scene)
        for question in asked:
            answer = perceiver.ask(question.text)
            outcome = judge(scene, question, answer, owners)
            outcomes.append(outcome)
            if wrong and not outcome.right(0.5):
                wrong.write(json.dumps(_failure(scene, question, answer)) + '\n')
    if wrong:
        wrong.close()
    return {
        'benchmark': 'tabletop',
        'model': perceiver.model.info.name,
        'backend': perceiver.model.info.backend,
        'test': {**asdict(test), 'data': test.data.name, 'scenes': scenes},
        'seconds': round(time.monotonic() - started, 1),
        **summary(outcomes),
    }


def _failure(scene: SceneRecord, question: Question, answer: Answer) -> dict[str, Any]:
    return {
        'scene': scene.id,
        'kind': question.kind,
        'question': question.text,
        'wanted': question.answer_text,
        'said': answer.text,
    }


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """The figures of a run."""
    kinds: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        kinds[outcome.kind].append(outcome)
    grounded = [o for o in outcomes if o.kind in GROUNDED]
    masks = [o.mask for o in outcomes if o.mask]
    return {
        'questions': len(outcomes),
        'box_accuracy_50': _share(grounded, 0.5),
        'box_accuracy_75': _share(grounded, 0.75),
        'box_accuracy_50_needed_relation': _share([o for o in grounded if o.needed], 0.5),
        'box_accuracy_50_held_out_objects': _share([o for o in grounded if o.held_out], 0.5),
        'absent_rejected': _share(kinds['absent'], 0.0),
        'count_exact': _mean([o.prose_right for o in kinds['count']]),
        'yes_no_right': _mean([o.prose_right for o in kinds['yesno']]),
        'task_right': _mean([o.task_right for o in outcomes]),
        'parses': _mean([o.problems == 0 for o in outcomes]),
        'mask_ciou': sum(m[0] for m in masks) / max(1, sum(m[1] for m in masks)),
        'mask_miou': _mean([m[0] / max(1, m[1]) for m in masks]),
        'mask_questions': len(masks),
        'seconds_p50': float(np.median([o.seconds for o in outcomes])) if outcomes else 0.0,
        'kinds': {
            kind: {'questions': len(rows), 'acc50': _share(rows, 0.5), 'acc75': _share(rows, 0.75)}
            for kind, rows in sorted(kinds.items())
            if rows
        },
    }


def _share(outcomes: list[Outcome], threshold: float) -> float | None:
    return _mean([o.right(threshold) for o in outcomes])


def _mean(values: list[bool] | list[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


def table(report: dict[str, Any]) -> str:
    """The report as text for a terminal."""
    lines = [f'{"kind":<12} {"questions":>9} {"Acc@0.5":>8} {"Acc@0.75":>8}']
    for kind, row in report['kinds'].items():
        lines.append(f'{kind:<12} {row["questions"]:>9} {row["acc50"]:>8.3f} {row["acc75"]:>8.3f}')
    figures = [name for name, value in report.items() if isinstance(value, float)]
    lines += [f'{name:<34} {report[name]:>8.3f}' for name in figures]
    return '\n'.join(lines)
