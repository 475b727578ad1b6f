"""The benchmark of the simulated table: questions of every kind on scenes held out for testing.

The whole path is measured: picture file, perceiver, text, boxes, masks. Known and held-out wordings
can be measured in one run, and dialogues of three turns, in which the model sees its own earlier
answers. Experts run for masks alone; what the other calls would make is not judged.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import IO, Any

import numpy as np
from tqdm import tqdm

from unifiedmllm_ros.evaluation.judging import Outcome, judge
from unifiedmllm_ros.perception import Answer, Perceiver
from unifiedmllm_ros.tabletop.dialogues import FOLLOW_UP, dialogue
from unifiedmllm_ros.tabletop.pictures import read_owners, read_picture
from unifiedmllm_ros.tabletop.questions import Question, questions
from unifiedmllm_ros.tabletop.record import SceneRecord, read_scenes

__all__ = ['Outcome', 'TabletopTest', 'evaluate', 'judge', 'summary', 'table']

GROUNDED = ('name', 'colour', 'relation', 'order', 'superlative', 'use', 'several')


TURNS = 3
WORDINGS = {'train': ('train',), 'test': ('test',), 'both': ('test', 'train')}


@dataclass(frozen=True)
class TabletopTest:
    """Which scenes and questions: `scenes` limits the number, `phrasings` is train, test or both,
    `dialogues` is how many dialogues of three turns each scene gets, in the wordings of
    `phrasings` (of test for both)."""

    data: Path
    scenes: int | None = None
    questions: int = 12
    phrasings: str = 'test'
    seed: int = 0
    dialogues: int = 0

    @property
    def wordings(self) -> tuple[str, ...]:
        """The splits of wordings to be measured, the one reported first at the front."""
        return WORDINGS[self.phrasings]

    def __iter__(self) -> Iterator[SceneRecord]:
        for number, scene in enumerate(read_scenes(self.data / 'scenes.jsonl')):
            if number == self.scenes:
                return
            yield scene

    def asked(self, scene: SceneRecord, wordings: str) -> list[Question]:
        """The questions about a scene, whose own seed makes them independent of other scenes."""
        return questions(scene, Random(f'{self.seed}-{scene.id}'), wordings, count=self.questions)

    def talks(self, scene: SceneRecord) -> list[list[Question]]:
        """The dialogues about a scene."""
        rng = Random(f'dialogues-{self.seed}-{scene.id}')
        return [dialogue(scene, rng, self.wordings[0], TURNS) for _ in range(self.dialogues)]


class _Run:
    """One evaluation: asks, judges, and writes what was wrong."""

    def __init__(self, test: TabletopTest, perceiver: Perceiver, wrong: IO[str] | None) -> None:
        self.test, self.perceiver, self.wrong = test, perceiver, wrong
        self.outcomes: dict[str, list[Outcome]] = {split: [] for split in test.wordings}
        self.talks: list[list[Outcome]] = []

    def scene(self, scene: SceneRecord) -> None:
        self.perceiver.set_image(read_picture(self.test.data, scene))
        owners = read_owners(self.test.data, scene)
        for split, outcomes in self.outcomes.items():
            for question in self.test.asked(scene, split):
                answer = self.perceiver.ask(question.text, execute=question.task == 'seg')
                outcomes.append(judge(scene, question, answer, owners))
                self._note(scene, question, answer, outcomes[-1].right(0.5))
        for talk in self.test.talks(scene):
            history: tuple[Any, ...] = ()
            turns: list[Outcome] = []
            for question in talk:
                answer = self.perceiver.ask(question.text, history=history, execute=False)
                history = (*history, answer.turn)
                turns.append(judge(scene, question, answer, owners))
                self._note(scene, question, answer, turns[-1].complete, len(turns))
            self.talks.append(turns)

    def _note(
        self, scene: SceneRecord, question: Question, answer: Answer, right: bool, turn: int = 0
    ) -> None:
        if self.wrong and not right:
            row = _failure(scene, question, answer)
            self.wrong.write(json.dumps({**row, 'turn': turn} if turn else row) + '\n')


def evaluate(
    test: TabletopTest, model: str, threads: int = 2, failures: Path | None = None
) -> dict[str, Any]:
    """Run the benchmark with a model by name or folder; returns the report."""
    perceiver = Perceiver.load(model, threads=threads)
    started, scenes = time.monotonic(), 0
    wrong = failures.open('w', encoding='utf-8') if failures else None
    try:
        run = _Run(test, perceiver, wrong)
        for scene in tqdm(test, desc='scenes', unit='scene', mininterval=2):
            scenes += 1
            run.scene(scene)
    finally:
        perceiver.close()
        if wrong:
            wrong.close()
    return {
        'benchmark': 'tabletop',
        'model': perceiver.model.info.name,
        'backend': perceiver.model.info.backend,
        'test': {**asdict(test), 'data': test.data.name, 'scenes': scenes},
        'seconds': round(time.monotonic() - started, 1),
        **report_of(run.outcomes, run.talks),
    }


def report_of(outcomes: Mapping[str, list[Outcome]], talks: list[list[Outcome]]) -> dict[str, Any]:
    """The figures of the first wordings, those of the second below `known_phrasings` with the gap
    between the two (known less held out, in points), those of dialogues below `dialogues`."""
    first, *others = outcomes
    report = summary(outcomes[first])
    if others:
        known = summary(outcomes[others[0]])
        report['known_phrasings'] = known
        report['phrasing_gap'] = _gaps(known, report)
    if talks:
        report['dialogues'] = summary_of_dialogues(talks)
    return report


def _gaps(known: Mapping[str, Any], held_out: Mapping[str, Any]) -> dict[str, float]:
    names = ('box_accuracy_50', 'box_accuracy_75', 'task_right', 'argument_exact', 'right')
    pairs = {name: (known[name], held_out[name]) for name in names}
    return {
        name: round(100 * (a - b), 2)
        for name, (a, b) in pairs.items()
        if a is not None and b is not None
    }


def summary_of_dialogues(talks: list[list[Outcome]]) -> dict[str, Any]:
    """How many dialogues, and turns, are right in everything; by place, and for back-references."""
    turns = [outcome for talk in talks for outcome in talk]
    longest = max(len(talk) for talk in talks)
    ways: dict[str, list[bool]] = defaultdict(list)
    for outcome in turns:
        if outcome.kind == FOLLOW_UP:
            ways[outcome.relation].append(outcome.complete)
    return {
        'dialogues': len(talks),
        'all_right': _mean([all(o.complete for o in talk) for talk in talks]),
        'turns_right': _mean([o.complete for o in turns]),
        'task_right': _mean([o.task_right for o in turns]),
        'back_references': sum(o.kind == FOLLOW_UP for o in turns),
        'back_references_right': _mean([o.complete for o in turns if o.kind == FOLLOW_UP]),
        'right_by_turn': [
            _mean([talk[n].complete for talk in talks if len(talk) > n]) for n in range(longest)
        ],
        'back_references_by_way': {way: _mean(rights) for way, rights in sorted(ways.items())},
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
        'argument_exact': _flags(o.argument_right for o in outcomes),
        'layout_numerical': _flags(o.numerical for o in kinds['layout']),
        'layout_spatial': _flags(o.spatial for o in kinds['layout']),
        'captions_right': _share(kinds['caption'], 0.5),
        'right': _mean([o.complete for o in outcomes]),
        'parses': _mean([o.problems == 0 for o in outcomes]),
        'mask_ciou': sum(m[0] for m in masks) / max(1, sum(m[1] for m in masks)),
        'mask_miou': _mean([m[0] / max(1, m[1]) for m in masks]),
        'mask_questions': len(masks),
        'seconds_p50': float(np.median([o.seconds for o in outcomes])) if outcomes else 0.0,
        'kinds': {
            kind: {
                'questions': len(rows),
                'acc50': _share(rows, 0.5),
                'acc75': _share(rows, 0.75),
                'task': _mean([o.task_right for o in rows]),
                'argument': _flags(o.argument_right for o in rows),
            }
            for kind, rows in sorted(kinds.items())
            if rows
        },
    }


def _share(outcomes: list[Outcome], threshold: float) -> float | None:
    return _mean([o.right(threshold) for o in outcomes])


def _mean(values: list[bool] | list[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


def _flags(values: Iterable[bool | None]) -> float | None:
    """Mean of those that are judged at all."""
    return _mean([value for value in values if value is not None])


def table(report: dict[str, Any]) -> str:
    """The report as text for a terminal: held-out wordings beside known ones, then dialogues."""
    known = report.get('known_phrasings')
    lines = ['kind         questions  Acc@0.5 Acc@0.75   task   argument'
             + ('    known Acc@0.5' if known else '')]  # fmt: skip
    for kind, row in report['kinds'].items():
        cells = [f'{kind:<12} {row["questions"]:>9}']
        cells += [_cell(row.get(name), 8) for name in ('acc50', 'acc75', 'task', 'argument')]
        if known:
            cells.append(_cell(known['kinds'].get(kind, {}).get('acc50'), 16))
        lines.append(' '.join(cells))
    figures = [name for name, value in report.items() if isinstance(value, float)]
    for name in figures:
        other = _cell(known[name], 10) if known and name in known else ''
        lines.append(f'{name:<34} {report[name]:>8.3f} {other}'.rstrip())
    for name, value in report.get('dialogues', {}).items():
        if isinstance(value, float):
            lines.append(f'{"dialogues " + name:<34} {value:>8.3f}')
    return '\n'.join(lines)


def _cell(value: float | None, width: int) -> str:
    return f'{"-":>{width}}' if value is None else f'{value:>{width}.3f}'
