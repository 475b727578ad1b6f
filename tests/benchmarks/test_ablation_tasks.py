"""The tasks of the ablation: answers from ground truth, and when one is right."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from benchmarks.ablation_tasks import TEST, TRAIN, WORDINGS, asked, right
from unifiedmllm_ros.representation import Response, format, parse
from unifiedmllm_ros.tabletop.lexicon import default_lexicon
from unifiedmllm_ros.tabletop.record import SceneRecord
from unifiedmllm_ros.tabletop.referring import View
from unifiedmllm_ros.tabletop.symbolic import sample_scene

SCENES = [
    replace(sample_scene(Random(seed), default_lexicon()), id=str(seed)) for seed in range(200)
]


def answers(task: str) -> list[tuple[SceneRecord, Response]]:
    found = [(scene, asked(task, scene, TRAIN)) for scene in SCENES]
    return [(scene, one[1]) for scene, one in found if one is not None]


@pytest.mark.parametrize('task', WORDINGS)
def test_answers_parse_and_wordings_of_the_test_are_held_out(task: str) -> None:
    made = answers(task)
    assert len(made) > 10
    for _, answer in made:
        assert parse(format(answer)) == (answer, ())
    train, test = WORDINGS[task]
    assert not set(train) & set(test)
    said = {one[0] for scene in SCENES if (one := asked(task, scene, TEST))}
    assert said == set(test)


def test_depths_go_from_near_to_far() -> None:
    for scene, answer in answers('depths'):
        depths = {seen.entry.short: seen.depth for seen in View(scene, default_lexicon()).seen}
        told = [depths[region.phrase] for region in answer.regions]
        if len(depths) == len(told):  # two things of one name are told apart by their boxes
            assert told == sorted(told)


def test_kinds_are_counted() -> None:
    for scene, answer in answers('kinds'):
        kinds = {seen.entry.kind for seen in View(scene, default_lexicon()).seen}
        assert answer.text == f'There are {len(kinds)} kinds of things.'


def test_an_answer_is_right_in_the_order_that_is_asked_for() -> None:
    wanted = next(answer for _, answer in answers('depths') if len(answer.regions) > 1)
    assert right(wanted, wanted)
    assert not right(Response(wanted.parts[::-1]), wanted)
    assert not right(Response(()), wanted)
    assert not right(Response(('There is 1 kind.',)), Response(('There are 2 kinds.',)))
