"""The unified representation: round trip, total parse, increments, escaping, registry."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unifiedmllm_ros.errors import RepresentationError
from unifiedmllm_ros.representation import (
    MARKERS,
    TASKS,
    Argument,
    Box,
    IncrementalParser,
    ProblemKind,
    Region,
    Response,
    TaskCall,
    TaskRegistry,
    TaskSpec,
    escape,
    format,
    parse,
    register_task,
    unescape,
)

MUG = Region('red mug', (Box(0.412, 0.203, 0.587, 0.441),))
MUG_TEXT = '<p>red mug</p><box>[0.412, 0.203, 0.587, 0.441]</box>'

any_text = st.text(st.characters(), max_size=40)
marker_rich = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *MARKERS,
                '[0.100, 0.200, 0.300, 0.400]',
                '[0.9, 0.2, 0.3, 0.4]',
                '[1.5, 2, 3, 4]',
                '<foo>',
                '</foo>',
                '<bos>',
                '&lt;',
                '&amp',
                '&',
                '<',
                '</',
                '>',
                ' ',
                '\ud800',
            ]
        ),
        any_text,
    ),
    max_size=30,
).map(''.join)
nasty_text = st.one_of(any_text, marker_rich)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x1, x2 = sorted(draw(st.lists(st.integers(0, 1000), min_size=2, max_size=2, unique=True)))
    y1, y2 = sorted(draw(st.lists(st.integers(0, 1000), min_size=2, max_size=2, unique=True)))
    return Box(x1 / 1000, y1 / 1000, x2 / 1000, y2 / 1000)


regions = st.builds(Region, nasty_text, st.lists(boxes(), min_size=1, max_size=3).map(tuple))


@st.composite
def calls(draw: st.DrawFn) -> TaskCall:
    spec = TASKS[draw(st.sampled_from(list(TASKS)))]
    argument = draw(nasty_text)
    if spec.argument is Argument.REQUIRED and not argument.strip():
        argument = 'do it'
    fewest, most = spec.regions
    found = draw(st.lists(regions, min_size=fewest, max_size=3 if most is None else most))
    return TaskCall(spec.name, argument, tuple(found))


responses = st.lists(st.one_of(nasty_text, regions, calls()), max_size=5).map(
    lambda parts: Response(tuple(parts))
)


def cut(text: str, places: list[int]) -> list[str]:
    ends = sorted(place % (len(text) + 1) for place in places)
    return [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]


def kinds(text: str) -> list[ProblemKind]:
    return [problem.kind for problem in parse(text)[1]]


@given(responses)
def test_every_valid_response_round_trips_without_a_problem(response: Response) -> None:
    assert parse(format(response)) == (response, ())


@given(nasty_text)
def test_parse_is_total_and_what_it_gives_can_be_written(text: str) -> None:
    response, problems = parse(text)
    assert parse(format(response))[0] == response
    for problem in problems:
        assert 0 <= problem.position <= len(text)
        assert problem.message
    assert [p.position for p in problems] == sorted(p.position for p in problems)


@given(responses, st.data())
def test_parse_survives_mutations_of_valid_text(response: Response, data: st.DataObject) -> None:
    text = format(response)
    start, end = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=2)))
    mutated = text[:start] + data.draw(marker_rich) + text[end:]
    read, _ = parse(mutated)
    assert parse(format(read))[0] == read


@given(nasty_text, st.lists(st.integers(0, 10_000), max_size=8))
def test_increments_give_what_the_whole_gives(text: str, places: list[int]) -> None:
    parser = IncrementalParser()
    fresh = [part for chunk in cut(text, places) for part in parser.feed(chunk)]
    response, problems = parser.close()
    assert (response, problems) == parse(text)
    already = Response(tuple(fresh)).parts
    assert all(a == b for a, b in zip(already[:-1], response.parts, strict=False))


@given(responses)
def test_character_by_character_equals_the_whole(response: Response) -> None:
    parser = IncrementalParser()
    for character in format(response):
        parser.feed(character)
    assert parser.close() == (response, ())


@given(nasty_text)
def test_escaped_text_holds_no_marker_and_comes_back(text: str) -> None:
    escaped = escape(text)
    assert '<' not in escaped
    assert '>' not in escaped
    assert unescape(escaped) == text
    assert parse(escaped) == (Response((text,)), ())


@settings(max_examples=25)
@given(
    st.lists(
        st.one_of(boxes(), st.sampled_from(['[a]', '[1, 2]', '[0.5, 0.5, 0.4, 0.6]', ''])),
        min_size=1,
        max_size=8,
    )
)
def test_good_boxes_beside_bad_ones_are_kept(mixed: list[Box | str]) -> None:
    good = tuple(item for item in mixed if isinstance(item, Box))
    bad = [item for item in mixed if isinstance(item, str)]
    written = ''.join(
        f'<box>{item}</box>'
        if isinstance(item, str)
        else '<box>[' + ', '.join(f'{v:.3f}' for v in item.corners) + ']</box>'
        for item in mixed
    )
    response, problems = parse(f'See <p>cups</p>{written}.')
    expected = Region('cups', good) if good else 'cups'
    assert response == Response(('See ', expected, '.'))
    assert len(problems) == len(bad)


def test_the_examples_of_the_format() -> None:
    text = f'The red mug is left of the plate. <seg>{MUG_TEXT}</seg>'
    response = Response(('The red mug is left of the plate. ', TaskCall('seg', '', (MUG,))))
    assert parse(text) == (response, ())
    assert format(response) == text
    assert response.text == 'The red mug is left of the plate. '
    assert response.regions == (MUG,)
    assert response.calls == (TaskCall('seg', '', (MUG,)),)
    layout = (
        '<layout>two bowls beside a plate<p>bowl</p><box>[0.050, 0.400, 0.300, 0.650]</box>'
        '<box>[0.700, 0.400, 0.950, 0.650]</box><p>plate</p><box>[0.350, 0.380, 0.650, 0.680]'
        '</box></layout>'
    )
    read, problems = parse(layout)
    assert not problems
    assert format(read) == layout
    assert [len(region.boxes) for region in read.calls[0].regions] == [2, 1]


@pytest.mark.parametrize(
    ('text', 'expected', 'problems'),
    [
        (f'<seg>{MUG_TEXT}', (MUG,), [(ProblemKind.UNCLOSED_TAG, 0)]),
        (f'<regedit>remove {MUG_TEXT}', ('remove ', MUG), [(ProblemKind.UNCLOSED_TAG, 0)]),
        (
            f'<seg>{MUG_TEXT}<seg>{MUG_TEXT}</seg>',
            (MUG, TaskCall('seg', '', (MUG,))),
            [(ProblemKind.UNCLOSED_TAG, 0)],
        ),
        (f'a <dance>{MUG_TEXT}</dance> b', ('a ', MUG, ' b'), [(ProblemKind.UNKNOWN_TASK, 2)]),
        ('a</seg>b', ('ab',), [(ProblemKind.UNEXPECTED_TAG, 1)]),
        ('a</foo>b', ('ab',), [(ProblemKind.UNEXPECTED_TAG, 1)]),
        (
            '<p>a</p><box>[0.1, 0.2, 0.3]</box>',
            ('a',),
            [(ProblemKind.MALFORMED_BOX, 8)],
        ),
        ('<p>a</p><box>[0, 0, 1.2, 1]</box>', ('a',), [(ProblemKind.OUT_OF_RANGE, 8)]),
        ('<p>a</p><box>[0, 0, 0, 1]</box>', ('a',), [(ProblemKind.DEGENERATE_BOX, 8)]),
        ('<p>a</p> and', ('a and',), [(ProblemKind.MISSING_BOX, 0)]),
        ('<p>a and', ('a and',), [(ProblemKind.UNCLOSED_TAG, 0)]),
        (
            'x<box>[0, 0, 1, 1]</box>',
            ('x', Region('', (Box(0, 0, 1, 1),))),
            [(ProblemKind.ORPHAN_BOX, 1)],
        ),
        (
            '<p>a<box>[0, 0, 1, 1]</box>',
            (Region('a', (Box(0, 0, 1, 1),)),),
            [(ProblemKind.UNCLOSED_TAG, 0)],
        ),
        (
            '<p>a</p><box>[0, 0, 1, 1] is here',
            (Region('a', (Box(0, 0, 1, 1),)), ' is here'),
            [(ProblemKind.UNCLOSED_TAG, 8)],
        ),
        (
            '<p>a</p><box>[0, 0, 1, is here',
            ('ais here',),
            [(ProblemKind.UNCLOSED_TAG, 8)],
        ),
        (
            f'<seg>{MUG_TEXT} then{MUG_TEXT}</seg>',
            (TaskCall('seg', ' then', (MUG, MUG)),),
            [(ProblemKind.MISPLACED_TEXT, 5 + len(MUG_TEXT))],
        ),
        ('<seg></seg>', (TaskCall('seg'),), [(ProblemKind.MISSING_REGION, 0)]),
        ('<gen> </gen>', (TaskCall('gen', ' '),), [(ProblemKind.MISSING_ARGUMENT, 0)]),
        (
            f'<gen>a{MUG_TEXT}</gen>',
            (TaskCall('gen', 'a', (MUG,)),),
            [(ProblemKind.UNEXPECTED_REGION, 0)],
        ),
    ],
)
def test_each_problem_has_its_kind_and_place_and_loses_nothing_valid(
    text: str, expected: tuple, problems: list[tuple[ProblemKind, int]]
) -> None:
    response, found = parse(text)
    assert response == Response(expected)
    assert [(problem.kind, problem.position) for problem in found] == problems


def test_blanks_between_the_tags_of_a_region_do_no_harm() -> None:
    text = f'<seg>\n<p>a</p> <box>[0, 0, 1, 1]</box>\n{MUG_TEXT}\n</seg>\nok'
    assert parse(text) == (
        Response((TaskCall('seg', '\n', (Region('a', (Box(0, 0, 1, 1),)), MUG)), '\nok')),
        (),
    )


def test_prose_arrives_as_it_is_said_and_a_region_when_it_is_complete() -> None:
    parser = IncrementalParser()
    assert parser.feed('The mug &am') == ('The mug ',)
    assert parser.feed('p; plate <') == ('& plate ',)
    assert parser.feed('p>red mug</p><box>[0.412, 0.203, 0.587, 0.441]') == ()
    assert parser.feed('</box>', confidence=0.75) == ()
    assert parser.feed('.') == (MUG, '.')
    response, problems = parser.close()
    assert response == Response(('The mug & plate ', MUG, '.'))
    assert not problems
    assert response.regions[0].boxes[0].confidence == 0.75


@pytest.mark.parametrize(
    'unit', ['<p><box>[', '<seg>', '<box>', '&', '<', '</p>', '<p>a</p> ', '<x>', '1', '[0.1, ']
)
def test_parse_takes_linear_time(unit: str) -> None:
    text = (unit * (100_000 // len(unit) + 1))[:100_000]
    start = time.process_time()
    parse(text)
    parse('<p>a</p><box>' + text + '</box>')
    assert time.process_time() - start < 2.0


def test_character_by_character_takes_linear_time() -> None:
    parser = IncrementalParser()
    start = time.process_time()
    for character in ('<p>a</p><box>[0.1, 0.2' * 5000)[:100_000]:
        parser.feed(character)
    parser.close()
    assert time.process_time() - start < 5.0


@pytest.mark.parametrize(
    'corners',
    [(0.5, 0, 0.5, 1), (0, 0.6, 1, 0.4), (-0.1, 0, 1, 1), (0, 0, 1.1, 1), (float('nan'), 0, 1, 1)],
)
def test_an_invalid_box_cannot_be_built(corners: tuple[float, float, float, float]) -> None:
    with pytest.raises(RepresentationError, match='box'):
        Box(*corners)


def test_a_box_keeps_three_decimals_and_its_confidence_is_no_part_of_equality() -> None:
    assert Box(0.12345, -0.0001, 0.5, 0.9996) == Box(0.123, 0, 0.5, 1.0, confidence=0.3)
    assert format(Response((Region('a', (Box(-0.0001, 0, 0.5, 0.5),)),))).count('-') == 0
    assert Box(0.25, 0.5, 0.5, 1.0).pixels(640, 480) == (160.0, 240.0, 320.0, 480.0)
    with pytest.raises(RepresentationError, match='confidence'):
        Box(0, 0, 1, 1, confidence=1.5)


def test_a_region_without_boxes_cannot_be_built() -> None:
    with pytest.raises(RepresentationError, match='no box'):
        Region('mug', ())


def test_markers_are_the_grounding_markers_and_two_for_each_task() -> None:
    assert MARKERS[:6] == ('<p>', '</p>', '<box>', '</box>', '<seg>', '</seg>')
    assert len(MARKERS) == len(set(MARKERS)) == 4 + 2 * 10


def test_a_new_task_is_one_registry_entry() -> None:
    tasks = TaskRegistry(tuple(TASKS.values()))
    text = f'<grasp>gently{MUG_TEXT}</grasp>'
    assert kinds(text) == [ProblemKind.UNKNOWN_TASK]
    tasks.register(TaskSpec('grasp', Argument.OPTIONAL, (1, 1), 'grasping'))
    assert parse(text, tasks) == (Response((TaskCall('grasp', 'gently', (MUG,)),)), ())
    assert format(parse(text, tasks)[0], tasks) == text
    assert '</grasp>' in tasks.markers
    with pytest.raises(RepresentationError, match='already registered'):
        tasks.register(TaskSpec('grasp', Argument.REQUIRED, (1, 1), 'grasping'))


def test_registering_a_built_in_task_otherwise_is_refused() -> None:
    with pytest.raises(RepresentationError, match='already registered'):
        register_task(TaskSpec('seg', Argument.REQUIRED, (0, 0), 'other'))
    register_task(TASKS['seg'])


@pytest.mark.parametrize('name', ['', 'p', 'box', 'Seg', 'a b', '1a', 'eos', 'x' * 33])
def test_a_task_name_that_cannot_be_a_marker_is_refused(name: str) -> None:
    with pytest.raises(RepresentationError, match='task name'):
        TaskSpec(name, Argument.OPTIONAL, (0, None), 'x')


def test_format_refuses_an_unregistered_task_and_names_the_remedy() -> None:
    with pytest.raises(RepresentationError, match='register_task'):
        format(Response((TaskCall('dance'),)))
