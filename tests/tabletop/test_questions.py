"""Answers are recomputed here from the scene record, without the code that asked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from random import Random

import pytest

from unifiedmllm_ros.representation import format, parse
from unifiedmllm_ros.tabletop import wording
from unifiedmllm_ros.tabletop.catalogue import CATALOGUE
from unifiedmllm_ros.tabletop.lexicon import default_lexicon, plural
from unifiedmllm_ros.tabletop.phrasings import CLOSINGS, NEVER_SEEN, OPENINGS, banks
from unifiedmllm_ros.tabletop.questions import (
    LOOKING,
    Question,
    QuestionError,
    corpus,
    questions,
)
from unifiedmllm_ros.tabletop.record import ObjectRecord, SceneRecord, canonical_box
from unifiedmllm_ros.tabletop.symbolic import sample_scene

Asked = list[tuple[SceneRecord, Question]]


@pytest.fixture(scope='module')
def asked() -> Asked:
    rng, lexicon = Random(17), default_lexicon()
    found: Asked = []
    with pytest.MonkeyPatch.context() as patch:
        # The checks below read the words of the questions, so these are typed without slips.
        patch.setattr(wording, 'TYPO_SHARE', 0.0)
        for number in range(150):
            scene = sample_scene(rng, lexicon, held_out=number % 3 == 0)
            split = 'test' if number % 3 == 0 else 'train'
            found += [(scene, question) for question in questions(scene, rng, split, LOOKING)]
    return found


def of(asked: Asked, *kinds: str) -> Asked:
    return [pair for pair in asked if pair[1].kind in kinds]


def objects(scene: SceneRecord, question: Question) -> list[ObjectRecord]:
    return [scene.objects[index] for index in question.targets]


def seen(scene: SceneRecord) -> list[ObjectRecord]:
    """Objects with enough of them in sight, by the rule of the record's documentation."""
    least = 60 * scene.width * scene.height / (320 * 240)
    return [o for o in scene.objects if o.visible >= 0.25 and o.area >= least]


def called(item: ObjectRecord, term: str) -> bool:
    """Whether the catalogue gives the object this name, colour and kind, or colour."""
    model = CATALOGUE[item.name]
    names = {model.name, model.kind, *model.synonyms}
    if term in names or term in ('object', f'{model.colour} thing'):
        return True
    uses = set(model.uses) - ({'drink'} if 'drink from' in model.uses else set())
    return any(term in (f'{model.colour} {n}', f'thing to {u}') for n in names for u in uses or '-')


def middle(item: ObjectRecord) -> float:
    return (item.box[0] + item.box[2]) / 2


def test_every_kind_is_asked(asked: Asked) -> None:
    assert {question.kind for _, question in asked} == set(LOOKING)
    assert {question.task for _, question in asked} == {'seg', 'ground', 'count', 'yesno', 'absent'}


def test_every_answer_parses_to_itself(asked: Asked) -> None:
    for _, question in asked:
        response, problems = parse(question.answer_text)
        assert not problems
        assert response == question.answer
        assert format(response) == question.answer_text


def test_boxes_are_those_of_the_targets_left_to_right(asked: Asked) -> None:
    for scene, question in asked:
        boxes = [box for region in question.answer.regions for box in region.boxes]
        assert boxes == [canonical_box(o.box) for o in objects(scene, question)]
        assert [b.x1 for b in boxes] == sorted(b.x1 for b in boxes)
        assert all(o in seen(scene) for o in objects(scene, question))
        assert len(question.answer.regions) <= 1


def test_task_calls_stand_where_a_mask_was_asked_for(asked: Asked) -> None:
    masks = re.compile(
        r'segment|mask|cut|highlight|outline|pixel|paint|trace|shade|select|color in'
    )
    for _, question in asked:
        if question.task == 'seg':
            assert [call.task for call in question.answer.calls] == ['seg']
        if question.task == 'ground':
            assert not question.answer.calls
        if question.answer.calls:
            assert masks.search(question.template)
        elif question.answer.regions:
            assert not masks.search(question.template)


def test_one_object_is_answered_with_its_short_name(asked: Asked) -> None:
    entries = default_lexicon().entries
    for scene, question in of(asked, 'name', 'colour', 'relation', 'order', 'superlative'):
        (target,) = objects(scene, question)
        (region,) = question.answer.regions
        assert region.phrase == entries[target.name].short


def test_names_denote_one_object_only(asked: Asked) -> None:
    checked = 0
    for scene, question in of(asked, 'name', 'colour'):
        noun, words = noun_of(scene, question), described(question)
        (target,) = objects(scene, question)
        colour = CATALOGUE[target.name].colour
        if not noun or not colour:
            continue
        rivals = [o for o in seen(scene) if called(o, noun) and o != target]
        if re.search(rf'\b{colour}\b', words):
            rivals = [o for o in rivals if CATALOGUE[o.name].colour == colour]
        assert not rivals
        checked += 1
    assert checked > 100


COLUMN: dict[str, tuple[Callable[[ObjectRecord], float], int]] = {
    'leftmost': (middle, 0),
    'rightmost': (lambda o: -middle(o), 0),
    'second from the left': (middle, 1),
    'second from the right': (lambda o: -middle(o), 1),
    'third from the left': (middle, 2),
    'nearest to the camera': (lambda o: o.position_camera[2], 0),
    'farthest from the camera': (lambda o: -o.position_camera[2], 0),
    'largest': (lambda o: -math.prod(o.size), 0),
    'smallest': (lambda o: math.prod(o.size), 0),
    'tallest': (lambda o: -o.size[2], 0),
}


def described(question: Question) -> str:
    """The words that fill the template's {x}, with what may follow them."""
    pattern = re.escape(question.template.rstrip('?')).replace(r'\{x\}', '(.+)')
    match = re.search(pattern, question.text.lower())
    assert match
    return match[1]


def noun_of(scene: SceneRecord, question: Question) -> str:
    """The noun of an order or size: the longest name of the target among the words."""
    (target,) = objects(scene, question)
    text = described(question)
    generic = [n for n in ('object', 'thing', 'item') if re.search(rf'\b{n}\b', text)]
    model = CATALOGUE[target.name]
    names = [model.name, model.kind, *model.synonyms]
    names += [f'{model.colour} {n}' for n in names]
    own = [n for n in names if re.search(rf'\b{n}\b', text)]
    return max(own, key=len) if own else 'object' if generic else ''


def test_orders_and_sizes(asked: Asked) -> None:
    checked = 0
    for scene, question in of(asked, 'order', 'superlative'):
        noun = noun_of(scene, question)
        if not noun:
            continue
        value, rank = COLUMN[question.relation]
        row = sorted((o for o in seen(scene) if called(o, noun)), key=value)
        assert [row[rank].index] == list(question.targets)
        checked += 1
    assert checked > 150


def holds(relation: str, a: ObjectRecord, b: ObjectRecord) -> bool:
    """The plain meaning of a relation, without margins."""
    depths = a.position_camera[2], b.position_camera[2]
    gap = math.dist(a.position[:2], b.position[:2]) - sum((*a.size[:2], *b.size[:2])) / 4
    return {
        'left of': middle(a) < middle(b),
        'right of': middle(a) > middle(b),
        'in front of': depths[0] < depths[1],
        'behind': depths[0] > depths[1],
        'next to': gap < 0.14,
    }[relation]


def test_relations_hold_for_the_target_and_no_rival(asked: Asked) -> None:
    pairs = [p for p in of(asked, 'relation') if p[1].relation not in ('between', 'nearest to')]
    for scene, question in pairs:
        (target,) = objects(scene, question)
        # Whatever it was related to, there must be an object to which it stands so.
        assert any(holds(question.relation, target, o) for o in seen(scene) if o != target)
    asked_what = [p for p in pairs if '{rel} {y}' in p[1].template]
    for scene, question in asked_what:
        (target,) = objects(scene, question)
        # Of the things seen there must be one to which only the target stands so.
        assert any(
            [o for o in seen(scene) if o != ref and holds(question.relation, o, ref)] == [target]
            for ref in seen(scene)
        )
    assert len(asked_what) > 10
    assert len(pairs) > 100


def test_half_of_the_relations_are_needed(asked: Asked) -> None:
    pairs = of(asked, 'relation')
    assert sum(question.needed for _, question in pairs) > len(pairs) / 2


def test_nearest_is_nearest(asked: Asked) -> None:
    pairs = [p for p in of(asked, 'relation') if p[1].relation == 'nearest to']
    for scene, question in pairs:
        (target,) = objects(scene, question)
        others = [o for o in seen(scene) if o != target]
        assert any(
            all(
                math.dist(target.position[:2], ref.position[:2])
                < math.dist(o.position[:2], ref.position[:2])
                for o in others
                if o != ref and called(o, CATALOGUE[target.name].kind)
            )
            for ref in others
        )
    assert pairs


def test_several_means_all_and_only_those(asked: Asked) -> None:
    pairs = [p for p in of(asked, 'several', 'use') if p[1].answer.regions]
    for scene, question in pairs:
        (region,) = question.answer.regions
        if question.kind == 'use' and len(question.targets) == 1:
            expected = [o.index for o in seen(scene) if called(o, f'thing to {question.relation}')]
        else:
            expected = [o.index for o in seen(scene) if called(o, region.phrase)]
        assert sorted(question.targets) == expected
    assert sum(len(question.targets) > 1 for _, question in pairs) > 50


def test_counts_are_right(asked: Asked) -> None:
    zeros = 0
    for scene, question in of(asked, 'count'):
        if not question.answer.regions:
            match = re.fullmatch(r'There (?:is|are) no (.*)\.', question.answer.text)
            assert match
            assert not any(called(o, match[1]) for o in scene.objects)
            zeros += 1
            continue
        (region,) = question.answer.regions
        expected = [o for o in scene.objects if o.area and called(o, region.phrase)]
        match = re.match(r'There (?:is|are) (\d+) ', question.answer.text)
        assert match
        assert int(match[1]) == len(expected) == len(region.boxes)
    assert zeros


def test_absent_things_are_nowhere_not_even_hidden(asked: Asked) -> None:
    terms = set()
    for scene, question in of(asked, 'absent'):
        match = re.fullmatch(r'There (?:is|are) no (.*)\.', question.answer.text)
        assert match
        assert not question.targets
        assert not any(called(o, match[1]) for o in scene.objects)
        terms.add(match[1])
    assert terms & set(NEVER_SEEN)
    assert len(terms - set(NEVER_SEEN)) > 40


def test_held_out_names_are_never_taught_as_absent(asked: Asked) -> None:
    known = [m for m in CATALOGUE.values() if not m.held_out]
    words = {w for m in known for n in (m.name, m.kind, *m.synonyms) for w in (n, n.split()[-1])}
    held_out = {m.name for m in CATALOGUE.values() if m.held_out} - {m.name for m in known}
    assert held_out - words
    for _, question in asked:
        if not question.targets:
            answer = question.answer.text.rstrip('.').partition(' no ')[2]
            assert answer not in held_out - words or any(
                answer == f'{m.colour} {m.kind}' for m in known
            )


def test_yes_and_no(asked: Asked) -> None:
    counts = {'Yes': 0, 'No': 0}
    for scene, question in of(asked, 'yesno'):
        text = question.answer.text
        counts[text[: 3 if text.startswith('Yes') else 2]] += 1
        if match := re.fullmatch(r'No, there (?:is|are) no (.*)\.', text):
            assert not any(called(o, match[1]) for o in scene.objects)
        elif question.answer.regions:
            (region,) = question.answer.regions
            expected = [o.index for o in seen(scene) if called(o, region.phrase)]
            assert sorted(question.targets) == expected
        else:
            _check_statement(scene, text)
    assert min(counts.values()) > 0.3 * sum(counts.values())


def _check_statement(scene: SceneRecord, text: str) -> None:
    relations = '(not next to|left of|right of|in front of|behind|next to)'
    placed = re.fullmatch(rf'(?:Yes|No), the (.*) is {relations} the (.*)\.', text)
    if not placed:
        match = re.fullmatch(r'(?:Yes|No), the (.*) is (\w+)\.', text)
        assert match
        (item,) = [o for o in seen(scene) if called(o, match[1])]
        assert CATALOGUE[item.name].colour == match[2]
        return
    a, b = (next(o for o in seen(scene) if called(o, placed[i])) for i in (1, 3))
    if placed[2] == 'not next to':
        assert not holds('next to', a, b)
    else:
        assert holds(placed[2], a, b)


def test_mirrored_scene_swaps_left_and_right() -> None:
    rng, lexicon = Random(2), default_lexicon()
    for _ in range(30):
        scene = sample_scene(rng, lexicon)
        (left,) = questions(scene, Random(1), kinds=['order'], count=1) or [None]
        if left is None or left.relation not in ('leftmost', 'rightmost'):
            continue
        flipped = scene.mirrored()
        row = sorted(seen(flipped), key=middle)
        if 'object' in left.text.lower():
            expected = row[-1] if left.relation == 'leftmost' else row[0]
            assert expected.index == left.targets[0]
    assert scene.mirrored().mirrored().objects[0].box == pytest.approx(scene.objects[0].box)


def test_same_seed_same_questions() -> None:
    scene = sample_scene(Random(4), default_lexicon())
    first, second = (questions(scene, Random(9), 'test') for _ in range(2))
    assert first == second
    assert first != questions(scene, Random(10), 'test')


def test_questions_of_a_scene_differ() -> None:
    scene = sample_scene(Random(5), default_lexicon(), count=6)
    texts = [question.text.lower() for question in questions(scene, Random(1), count=40)]
    assert len(set(texts)) == len(texts) == 40


def test_kinds_and_split_are_checked() -> None:
    scene = sample_scene(Random(6), default_lexicon())
    assert {q.kind for q in questions(scene, Random(1), kinds=['count'])} == {'count'}
    with pytest.raises(QuestionError, match='colours'):
        questions(scene, Random(1), kinds=['colours'])
    with pytest.raises(QuestionError, match='validation'):
        questions(scene, Random(1), 'validation')


def test_empty_scene_still_has_answers() -> None:
    scene = SceneRecord('0', 'train', 0, '', '', 320, 240, {}, ())
    found = questions(scene, Random(1), kinds=LOOKING)
    assert found
    assert {q.task for q in found} <= {'absent', 'count', 'yesno'}
    assert not any(q.targets for q in found)


def placed(index: int, name: str, x: float, area: int, visible: float) -> ObjectRecord:
    box, position = (x, 0.4, x + 0.1, 0.6), (x, 0.0, 0.0)
    return ObjectRecord(index, name, box, area, visible, position, (x, 0.0, 1.0), (0.1, 0.1, 0.1))


def test_a_hidden_mug_silences_the_count() -> None:
    mugs = [asset for asset, model in CATALOGUE.items() if model.kind == 'mug'][:2]
    hidden = CATALOGUE[mugs[1]].colour
    pair = (placed(0, mugs[0], 0.1, 900, 1.0), placed(1, mugs[1], 0.5, 40, 0.1))
    scene = SceneRecord('1', 'train', 0, '', '', 320, 240, {}, pair)
    for question in questions(scene, Random(8), count=40):
        assert not re.search(r'There is 1 (coffee mug|mug|cup|object)', question.answer.text)
        assert 1 not in question.targets
        assert 'no mug' not in question.answer.text
        assert f'no {hidden} mug' not in question.answer.text


def test_some_questions_are_mistyped_but_few() -> None:
    rng, lexicon = Random(1), default_lexicon()
    scenes = [sample_scene(rng, lexicon) for _ in range(40)]
    found = [q for scene in scenes for q in questions(scene, rng, kinds=['order'], count=10)]
    # Without slips, the words of an order are all in its bank.
    known = {w for b in banks().values() for t in b.train for w in re.findall('[a-z0-9]+', t)}
    known |= {w for t in lexicon.strict for w in t.split()}
    known |= {w for t in (*OPENINGS, *CLOSINGS) for w in re.findall('[a-z]+', t)}
    known |= {w for t in lexicon.strict for w in plural(t).split()}
    slipped = [q for q in found if set(re.findall('[a-z0-9]+', q.text.lower())) - known]
    assert 0.01 < len(slipped) / len(found) < 0.1


def test_corpus_gives_as_many_lines_as_asked() -> None:
    lines = list(corpus(Random(0), 101))
    assert len(lines) == 101
    assert any('<p>' in line for line in lines)
    assert all(line.startswith(' ') and line.isascii() for line in lines)
