"""Every scoring rule of NSR-1K on cases worked out by hand."""

from __future__ import annotations

import pytest

from unifiedmllm_ros.evaluation.nsr1k import (
    XYWH,
    Layout,
    NumericalScore,
    count_classes,
    mentioned_class,
    relation_between,
    score_comparison,
    score_counts,
    score_spatial,
)

BOX: XYWH = (0.1, 0.1, 0.2, 0.2)


def _layout(**counts: int) -> Layout:
    return [(name, BOX) for name, count in counts.items() for _ in range(count)]


@pytest.mark.parametrize(
    ('said', 'mentioned', 'counts_as'),
    [
        ('dog', ['dog'], 'dog'),
        ('dogs', ['dog'], 'dog'),  # the prediction contains the class
        ('truck', ['fire truck'], 'fire truck'),  # the class contains the prediction
        ('a dog', ['dog'], 'dog'),
        ('the dog', ['dog'], 'dog'),
        ('cat', ['dog'], 'cat'),
        # Sets of characters, one after the other: "a ", "an ", then "the ".
        ('teapot', ['apot'], 'apot'),
        ('hand', ['and'], 'and'),
        ('nat', ['zebra'], 'zebra'),  # nothing is left, and every class contains nothing
        # The name becomes the class before it is compared with the next.
        ('dog', ['dog', 'hot dog'], 'hot dog'),
        ('hot dog', ['hot dog', 'dog'], 'dog'),
        ('dog', ['hot dog', 'cat'], 'hot dog'),
    ],
)
def test_mentioned_class(said: str, mentioned: list[str], counts_as: str) -> None:
    assert mentioned_class(said, mentioned) == counts_as


def test_unmentioned_classes_keep_their_names() -> None:
    assert count_classes(_layout(dogs=2, cat=1), ['dog']) == {'dog': 2, 'cat': 1}


@pytest.mark.parametrize(
    ('truth', 'said', 'right'),
    [
        ((3, 3), (3, 3), True),
        ((3, 3), (2, 2), False),  # equal, but not the number
        ((3, 3), (3, 2), False),
        ((2, 4), (2, 4), True),
        ((2, 4), (2, 7), True),  # the sign is enough for the second
        ((2, 4), (2, 2), False),
        ((2, 4), (2, 1), False),
        ((2, 4), (3, 4), False),  # the first must be exact
        ((4, 2), (4, 0), True),
    ],
)
def test_comparison(truth: tuple[int, int], said: tuple[int, int], right: bool) -> None:
    counts = (('cat', truth[0]), ('dog', truth[1]))
    score = score_comparison(_layout(cat=said[0], dog=said[1]), counts)
    assert score == NumericalScore(float(right))


def test_exact_counts() -> None:
    score = score_counts(_layout(dog=2, cat=1), (('dog', 2), ('cat', 1)))
    assert score == NumericalScore(1.0, 1.0, 1.0, 1.0, 0.0)


def test_wrong_counts() -> None:
    # dog 3 of 2, cat 1 of 3, and a bird: intersection 2 + 1, union 3 + 3, 5 boxes, truth 5.
    score = score_counts(_layout(dog=3, cat=1, bird=1), (('dog', 2), ('cat', 3)))
    assert score == NumericalScore(0.0, 3 / 5, 3 / 5, 3 / 6, (1 + 2) / 2)


def test_unmentioned_boxes_lower_the_precision_only() -> None:
    score = score_counts(_layout(dog=2, bird=2), (('dog', 2),))
    assert score == NumericalScore(1.0, 0.5, 1.0, 1.0, 0.0)


def test_nothing_in_common() -> None:
    assert score_counts((), (('dog', 2),)) == NumericalScore(0.0, 0.0, 0.0, 0.0, 2.0)
    assert score_counts(_layout(cat=1), (('dog', 2),)).precision == 0.0


@pytest.mark.parametrize(
    ('first', 'relation'),
    [
        ((0.0, 0.4, 0.2, 0.2), 'left'),
        ((0.8, 0.4, 0.2, 0.2), 'right'),
        ((0.4, 0.0, 0.2, 0.2), 'top'),
        ((0.4, 0.8, 0.2, 0.2), 'bottom'),
        ((0.7, 0.11, 0.2, 0.2), 'right'),  # 44 degrees up
        ((0.69, 0.1, 0.2, 0.2), 'top'),  # 46 degrees
        ((0.4, 0.4, 0.2, 0.2), 'diagonal'),  # the same box
        ((0.3, 0.3, 0.4, 0.4), 'diagonal'),  # the same centre
    ],
)
def test_relation(first: XYWH, relation: str) -> None:
    assert relation_between(first, (0.4, 0.4, 0.2, 0.2)) == relation


def test_relation_is_between_centres_not_corners() -> None:
    # The corner of the first is further left, its centre further right.
    assert relation_between((0.0, 0.0, 1.0, 0.2), (0.1, 0.0, 0.2, 0.2)) == 'right'


def _pair(first: str = 'dog', second: str = 'cat') -> Layout:
    """The first left of the second."""
    return [(first, (0.0, 0.4, 0.2, 0.2)), (second, (0.8, 0.4, 0.2, 0.2))]


@pytest.mark.parametrize(
    ('relation', 'right'),
    [('left', True), ('next to', True), ('right', False), ('top', False)],
)
def test_spatial(relation: str, right: bool) -> None:
    assert score_spatial(_pair(), 'dog', 'cat', relation) is right


def test_next_to_is_not_above() -> None:
    layout: Layout = [('dog', (0.4, 0.0, 0.2, 0.2)), ('cat', (0.4, 0.8, 0.2, 0.2))]
    assert score_spatial(layout, 'dog', 'cat', 'next to') is False


def test_close_names_count_others_are_missing() -> None:
    assert score_spatial(_pair('dogs', 'a cat'), 'dog', 'cat', 'left') is True
    assert score_spatial(_pair('dot', 'cat'), 'dog', 'cat', 'left') is True  # 4 / 6 >= 0.6
    assert score_spatial(_pair('doll', 'cat'), 'dog', 'cat', 'left') is None  # 4 / 7 < 0.6
    assert score_spatial(_pair('dog', 'puma'), 'dog', 'cat', 'left') is None
    assert score_spatial((), 'dog', 'cat', 'left') is None


def test_the_best_match_only() -> None:
    layout = [*_pair('dogs', 'cat'), ('dog', (0.9, 0.4, 0.1, 0.2))]
    assert score_spatial(layout, 'dog', 'cat', 'right') is True
    assert score_spatial(layout, 'dog', 'cat', 'left') is False


def test_one_pair_of_several_is_enough() -> None:
    layout = [*_pair(), ('dog', (0.8, 0.0, 0.2, 0.2))]
    assert score_spatial(layout, 'dog', 'cat', 'top') is True
    assert score_spatial(layout, 'dog', 'cat', 'left') is True


def test_zero_boxes_are_no_boxes() -> None:
    layout = [('dog', (0.0, 0.0, 0.0, 0.0)), ('cat', BOX)]
    assert score_spatial(layout, 'dog', 'cat', 'diagonal') is None
