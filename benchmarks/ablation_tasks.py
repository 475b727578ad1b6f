"""Tasks of the simulated table that the shipped model has never met, for the ablation.

depths      everything with boxes, from near to far
kinds       how many kinds of things there are, in a sentence
backwards   what is to be seen, from right to left
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from pathlib import Path
from random import Random

from unifiedmllm_ros.evaluation.metrics import box_iou
from unifiedmllm_ros.perception import Perceiver
from unifiedmllm_ros.representation import Region, Response
from unifiedmllm_ros.tabletop.describing import MOST_GROUNDED, sentence
from unifiedmllm_ros.tabletop.lexicon import default_lexicon
from unifiedmllm_ros.tabletop.pictures import read_picture
from unifiedmllm_ros.tabletop.record import SceneRecord, canonical_box, read_scenes
from unifiedmllm_ros.tabletop.referring import DEPTH_MARGIN, Seen, View, left_to_right

IOU = 0.5
TRAIN, TEST = 0, 1
WORDINGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    'depths': (
        (
            'list everything from near to far',
            'box all things, the nearest first',
            'what is on the table, from the front to the back?',
            'go from the closest thing to the farthest',
        ),
        ('list all things from front to back', 'box everything, the closest first'),
    ),
    'kinds': (
        (
            'how many kinds of things are there?',
            'count the kinds of things',
            'how many different things do you see?',
            'tell me how many kinds there are',
        ),
        ('how many different kinds are there?', 'count the different things'),
    ),
    'backwards': (
        (
            'describe the table from right to left',
            'what do you see, from the right to the left?',
            'tell me what is there, beginning at the right',
            'list what is on the table from the right',
        ),
        ('describe what you see from the right', 'what is there from right to left?'),
    ),
}

Asked = tuple[str, Response]


def asked(task: str, scene: SceneRecord, split: int) -> Asked | None:
    """A question of a task and its answer; None where the scene leaves the answer open."""
    seen = View(scene, default_lexicon()).seen
    if len(seen) < 2 or any(not one.referable for one in seen):
        return None
    answer = _ANSWERS[task](left_to_right(seen))
    if answer is None:
        return None
    return Random(f'{task}-{scene.id}').choice(WORDINGS[task][split]), answer


def _depths(seen: tuple[Seen, ...]) -> Response | None:
    near_to_far = sorted(seen, key=lambda one: one.depth)
    clear = all(b.depth - a.depth > DEPTH_MARGIN for a, b in pairwise(near_to_far))
    if not clear or len(seen) > MOST_GROUNDED:
        return None
    return Response(
        tuple(Region(one.entry.short, (canonical_box(one.record.box),)) for one in near_to_far)
    )


def _kinds(seen: tuple[Seen, ...]) -> Response | None:
    count = len({one.entry.kind for one in seen})
    return Response((f'There are {count} kinds of things.',)) if count > 1 else None


def _backwards(seen: tuple[Seen, ...]) -> Response | None:
    return Response((sentence(seen[::-1]),))


_ANSWERS: dict[str, Callable[[tuple[Seen, ...]], Response | None]] = {
    'depths': _depths,
    'kinds': _kinds,
    'backwards': _backwards,
}


def right(said: Response, wanted: Response) -> bool:
    """Whether an answer has the words, and the boxes in their order, each met at IOU."""
    pairs = [
        [box for region in response.regions for box in region.boxes] for response in (said, wanted)
    ]
    if said.calls or said.text.split() != wanted.text.split() or len(pairs[0]) != len(pairs[1]):
        return False
    return all(box_iou(a, b) >= IOU for a, b in zip(*pairs, strict=True))


def measured(model: str, data: Path, scenes: int, threads: int) -> dict[str, float]:
    """The share of right answers of each task, in test wordings, about the first test scenes."""
    perceiver = Perceiver.load(model, threads=threads)
    verdicts: dict[str, list[bool]] = {task: [] for task in WORDINGS}
    for scene, questions in _about(data, scenes):
        perceiver.set_image(read_picture(data, scene))
        for task, (text, wanted) in questions.items():
            said = perceiver.ask(text, execute=False).response
            verdicts[task].append(right(said, wanted))
    perceiver.close()
    return {task: round(sum(all_) / len(all_), 4) for task, all_ in verdicts.items()}


def _about(data: Path, scenes: int) -> Iterator[tuple[SceneRecord, dict[str, Asked]]]:
    for scene in islice(read_scenes(data / 'scenes.jsonl'), scenes):
        found = {task: asked(task, scene, TEST) for task in WORDINGS}
        yield scene, {task: question for task, question in found.items() if question}
