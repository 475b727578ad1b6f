"""Requests of every task: arguments, boxes and layouts are checked without the code that asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from random import Random

import pytest

from unifiedmllm_ros.representation import Box, format, parse
from unifiedmllm_ros.tabletop.catalogue import CATALOGUE
from unifiedmllm_ros.tabletop.lexicon import default_lexicon, plural
from unifiedmllm_ros.tabletop.questions import (
    KINDS,
    LOOKING,
    MADE_OF_WORDS,
    Question,
    canonical_box,
    questions,
)
from unifiedmllm_ros.tabletop.record import SceneRecord
from unifiedmllm_ros.tabletop.symbolic import sample_scene
from unifiedmllm_ros.tabletop.task_words import COLOURS, composed, held_out
from unifiedmllm_ros.tasks import TASKS

Asked = list[tuple[SceneRecord, Question]]
TASK_KINDS = tuple(kind for kind in KINDS if kind not in LOOKING)


@pytest.fixture(scope='module')
def asked() -> Asked:
    rng, lexicon = Random(11), default_lexicon()
    found: Asked = []
    for number in range(200):
        scene = sample_scene(rng, lexicon)
        split = ('train', 'test')[number % 2]
        found += [(scene, q) for q in questions(scene, rng, split, TASK_KINDS)]
    return found


def calls(asked: Asked, *kinds: str) -> Iterator[tuple[SceneRecord, Question, str]]:
    for scene, question in asked:
        if question.kind in kinds and question.answer.calls:
            yield scene, question, question.answer.calls[0].argument


def touch(a: Box, b: Box) -> bool:
    return a.x1 < b.x2 and b.x1 < a.x2 and a.y1 < b.y2 and b.y1 < a.y2


def test_every_task_of_the_representation_is_asked_for(asked: Asked) -> None:
    called = {call.task for _, q in asked for call in q.answer.calls}
    assert called == set(TASKS) - {'seg'}
    assert {q.kind for _, q in asked} == {*TASK_KINDS, 'absent'}


def test_answers_parse_and_fit_the_registry(asked: Asked) -> None:
    for _, question in asked:
        response, problems = parse(question.answer_text)
        assert not problems
        assert format(response) == question.answer_text
        assert question.text.isascii()


def test_what_is_to_be_made_is_in_the_users_words(asked: Asked) -> None:
    made = list(calls(asked, *MADE_OF_WORDS, 'layout'))
    for _, question, argument in made:
        assert argument in question.text.lower()
        assert question.judged[0] == 'argument'
    assert {question.kind for _, question, _ in made} == {*MADE_OF_WORDS, 'layout'}


def test_edits_name_what_is_there_and_what_is_new(asked: Asked) -> None:
    entries, seen = default_lexicon().entries, set()
    for scene, question, argument in calls(asked, 'remove', 'replace', 'recolour'):
        (target,) = (scene.objects[index] for index in question.targets)
        short, text = entries[target.name].short, question.text.lower()
        (region,) = question.answer.regions
        assert region.boxes == (canonical_box(target.box),)
        assert region.phrase == short
        seen.add(question.kind)
        if question.kind == 'remove':
            assert argument == f'remove the {short}'
        elif question.kind == 'replace':
            match = re.fullmatch(rf'replace the {re.escape(short)} with (.+)', argument)
            assert match
            assert match[1] in text
        else:
            colour = argument.rpartition(' ')[2]
            assert argument == f'paint the {short} {colour}'
            assert colour in COLOURS
            assert colour in text
            assert colour != CATALOGUE[target.name].colour
    assert seen == {'remove', 'replace', 'recolour'}


def test_what_is_added_stands_beside_its_reference_and_touches_nothing(asked: Asked) -> None:
    entries, sides = default_lexicon().entries, set()
    for scene, question, argument in calls(asked, 'add'):
        match = re.fullmatch(r'add (.+) (left of|right of|next to) the (.+)', argument)
        assert match
        (region,) = question.answer.regions
        (box,) = region.boxes
        assert match[1].split(' ', 1)[1] == region.phrase
        assert match[1] in question.text.lower()
        shown = [o for o in scene.objects if o.area]
        # Its reference is the one it stands beside, on the same line.
        side = {
            'left of': lambda o, box=box: box.x2 <= o.box[0] + 0.001,
            'right of': lambda o, box=box: box.x1 >= o.box[2] - 0.001,
        }
        side['next to'] = lambda o, side=side: side['left of'](o) or side['right of'](o)
        same = [o for o in shown if entries[o.name].short == match[3] and side[match[2]](o)]
        beside = [o for o in same if abs(canonical_box(o.box).y2 - box.y2) < 0.002]
        assert beside
        assert not any(touch(box, canonical_box(o.box)) for o in shown)
        sides.add(match[2])
    assert sides == {'left of', 'right of', 'next to'}


def test_layouts_hold_the_numbers_and_places_of_their_sentence(asked: Asked) -> None:
    words = {'a': 1, 'an': 1, 'one': 1, 'two': 2, 'three': 3, 'four': 4}
    related = 0
    for _, question, argument in calls(asked, 'layout'):
        regions = {r.phrase: r.boxes for r in question.answer.regions}
        everything = [box for boxes in regions.values() for box in boxes]
        assert not any(touch(a, b) for a, b in combinations(everything, 2))
        for phrase, boxes in regions.items():
            said = re.search(rf'(\w+) (?:{phrase}|{plural(phrase)})\b', argument)
            assert said
            assert len(boxes) == (int(said[1]) if said[1].isdigit() else words[said[1]])
        assert list(regions) == sorted(regions, key=lambda p: argument.find(p.split()[0]))
        assert question.arrangement
        for first, relation, second in question.arrangement.relations:
            related += 1
            for a in regions[first]:
                for b in regions[second]:
                    assert {
                        'left of': a.x2 <= b.x1,
                        'right of': a.x1 >= b.x2,
                        'above': a.y2 <= b.y1,
                        'below': a.y1 >= b.y2,
                        'next to': a.x2 <= b.x1,
                    }[relation]
    assert related > 50


def test_captions_count_every_kind_from_the_left(asked: Asked) -> None:
    entries, checked = default_lexicon().entries, 0
    for scene, question in asked:
        if question.kind != 'caption':
            continue
        shown = sorted((o for o in scene.objects if o.area), key=lambda o: (o.box[0], o.box[1]))
        if question.answer.regions:
            phrases = [region.phrase for region in question.answer.regions]
            assert phrases == [entries[o.name].short for o in shown]
            continue
        kinds = [entries[o.name].kind for o in shown]
        for kind in set(kinds):
            number = kinds.count(kind)
            noun = f' {number} {plural(kind)}' if number > 1 else f' {kind}'
            assert noun in question.answer.text
        checked += 1
    assert checked > 20


def test_what_is_absent_is_neither_followed_nor_edited(asked: Asked) -> None:
    absent = [(s, q) for s, q in asked if q.kind == 'absent']
    assert len(absent) > 20
    for _, question in absent:
        assert not question.answer.calls
        assert question.answer.text.startswith(('There is no ', 'There are no '))


def test_compositions_for_testing_are_never_drawn_for_training(asked: Asked) -> None:
    for kind in MADE_OF_WORDS:
        for split in ('train', 'test'):
            drawn = {composed(kind, Random(n), split) for n in range(200)}
            assert {held_out(words) for words in drawn} == {split == 'test'}
            assert len(drawn) > (5 if split == 'test' else 40)
