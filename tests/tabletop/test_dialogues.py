"""Dialogues keep to what is true at each of their turns."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from unifiedmllm_ros.representation import format, parse
from unifiedmllm_ros.tabletop.dialogues import FOLLOW_UP, dialogue
from unifiedmllm_ros.tabletop.followup_phrasings import FOLLOW_UPS
from unifiedmllm_ros.tabletop.lexicon import default_lexicon
from unifiedmllm_ros.tabletop.questions import Question, QuestionError
from unifiedmllm_ros.tabletop.record import SceneRecord
from unifiedmllm_ros.tabletop.symbolic import sample_scene

Talks = list[tuple[SceneRecord, list[Question]]]


@pytest.fixture(scope='module')
def talks() -> Talks:
    rng, lexicon = Random(3), default_lexicon()
    scenes = [sample_scene(rng, lexicon) for _ in range(250)]
    return [(s, dialogue(s, rng, 'train')) for s in scenes for _ in range(3)]


def test_every_dialogue_has_its_turns_and_every_answer_parses(talks: Talks) -> None:
    for _, talk in talks:
        assert len(talk) == 3
        assert talk[0].kind != FOLLOW_UP
        for question in talk:
            response, problems = parse(question.answer_text)
            assert not problems
            assert format(response) == question.answer_text


def test_most_later_turns_refer_back_and_every_way_occurs(talks: Talks) -> None:
    later = [q for _, talk in talks for q in talk[1:]]
    assert sum(q.kind == FOLLOW_UP for q in later) > 0.4 * len(later)
    ways = Counter(q.relation for q in later if q.kind == FOLLOW_UP)
    assert set(ways) == set(FOLLOW_UPS)


def test_nothing_that_was_taken_away_is_answered_with_again(talks: Talks) -> None:
    removals = 0
    for _, talk in talks:
        gone: set[int] = set()
        for question in talk:
            assert not gone & set(question.targets)
            for call in question.answer.calls:
                if call.task == 'regedit' and call.argument.startswith('remove'):
                    gone |= set(question.targets)
                    removals += 1
    assert removals > 50


def test_it_is_what_the_turn_before_named(talks: Talks) -> None:
    checked = 0
    for _, talk in talks:
        for before, after in pairwise(talk):
            if re.match('(it|them|new)_', after.relation) and after.relation != 'it_add':
                said = {b for r in before.answer.regions for b in r.boxes}
                assert {b for r in after.answer.regions for b in r.boxes} == said
                checked += 1
    assert checked > 200


def test_the_other_one_is_the_only_other_of_its_kind(talks: Talks) -> None:
    entries, checked = default_lexicon().entries, 0
    for scene, talk in talks:
        for before, after in pairwise(talk):
            if after.relation == 'other':
                kinds = [entries[scene.objects[q.targets[0]].name].kind for q in (before, after)]
                assert kinds[0] == kinds[1]
                assert before.targets != after.targets
                checked += 1
    assert checked > 5


def test_how_many_are_left_is_counted_without_what_is_gone(talks: Talks) -> None:
    entries, checked = default_lexicon().entries, 0
    for scene, talk in talks:
        gone: set[int] = set()
        for question in talk:
            gone |= set(question.targets) if question.task == 'regedit' else set()
            match = re.match(r'There (?:is|are) (\d+) ', question.answer.text)
            if question.relation == 'count_left' and match:
                noun = question.answer.regions[0].phrase
                left = [o for o in scene.objects if o.index not in gone and o.area]
                same = [o for o in left if noun in (entries[o.name].kind, 'object')]
                assert int(match[1]) == len(same)
                checked += 1
    assert checked


def test_after_an_edit_only_what_it_settles_is_asked_of_the_picture(talks: Talks) -> None:
    for _, talk in talks:
        edited = False
        for question in talk:
            if edited and question.kind != FOLLOW_UP:
                assert not question.targets
                assert question.kind not in ('absent', 'count', 'yesno', 'caption', 'add')
            calls = [c.argument.split(' ')[0] for c in question.answer.calls if c.task == 'regedit']
            edited |= any(word in ('paint', 'replace', 'add') for word in calls)


def test_what_was_painted_is_called_by_its_new_colour(talks: Talks) -> None:
    found = 0
    for _, talk in talks:
        for before, after in pairwise(talk):
            argument = before.answer.calls[0].argument if before.answer.calls else ''
            if argument.startswith('paint') and after.relation.startswith('it_'):
                old, new = before.answer.regions[0].phrase, after.answer.regions[0].phrase
                colour = argument.rpartition(' ')[2]
                assert new == old or new.startswith(colour)
                found += new != old
    assert found > 10


def test_the_same_seed_gives_the_same_dialogue_and_the_split_is_checked() -> None:
    scene = sample_scene(Random(5), default_lexicon())
    assert dialogue(scene, Random(1)) == dialogue(scene, Random(1))
    assert len(dialogue(scene, Random(2), 'test', turns=5)) == 5
    with pytest.raises(QuestionError, match='validation'):
        dialogue(scene, Random(1), 'validation')


def test_a_name_never_means_what_was_painted_or_replaced(talks: Talks) -> None:
    entries, rng, lexicon, checked = default_lexicon().entries, Random(9), default_lexicon(), 0
    longer = [(s, dialogue(s, rng, 'train', 6)) for s, _ in talks[:200]]
    for scene, talk in longer:
        kinds: set[str] = set()
        for question in talk:
            if question.relation == 'also':
                (target,) = question.targets
                assert entries[scene.objects[target].name].kind not in kinds
                checked += bool(kinds)
            verbs = [c.argument.split(' ')[0] for c in question.answer.calls]
            if question.task == 'regedit' and verbs[0] in ('paint', 'replace'):
                kinds |= {lexicon.entries[scene.objects[t].name].kind for t in question.targets}
    assert checked > 3
