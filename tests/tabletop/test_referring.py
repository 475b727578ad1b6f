"""Relations on scenes laid out by hand: clear cases, margins, and what hidden objects forbid."""

from __future__ import annotations

import pytest

from unifiedmllm_ros.tabletop import referring
from unifiedmllm_ros.tabletop.asked import HOLDS
from unifiedmllm_ros.tabletop.lexicon import default_lexicon
from unifiedmllm_ros.tabletop.pointing import RANKS, ranked, sized
from unifiedmllm_ros.tabletop.record import ObjectRecord, SceneRecord
from unifiedmllm_ros.tabletop.referring import UnknownObjectError, View

BOWLS = ('white_bowl', 'red_bowl', 'blue_bowl')


def item(
    index: int,
    name: str,
    x: float,
    away: float = 0.0,
    *,
    size: tuple[float, float, float] = (0.1, 0.1, 0.1),
    visible: float = 1.0,
) -> ObjectRecord:
    """An object at `x` metres (half an image width each), `away` metres behind the middle."""
    middle, rise = 0.5 + x / 2, 0.6 - away / 2
    box = (middle - 0.04, rise - 0.05, middle + 0.04, rise + 0.05)
    area = int(900 * visible)
    return ObjectRecord(index, name, box, area, visible, (x, away, 0.0), (x, 0.1, 1 + away), size)


def view(*items: ObjectRecord) -> View:
    return View(SceneRecord('0', 'train', 0, '', '', 320, 240, {}, items), default_lexicon())


@pytest.mark.parametrize(
    ('relation', 'x', 'away', 'expected'),
    [
        ('left of', -0.3, 0.0, True),
        ('left of', 0.3, 0.0, False),
        ('left of', -0.1, 0.0, None),
        ('right of', 0.3, 0.2, True),
        ('in front of', 0.0, -0.2, True),
        ('in front of', 0.0, -0.04, None),
        ('behind', 0.0, 0.2, True),
        ('behind', 0.0, -0.2, False),
        ('next to', 0.15, 0.0, True),
        ('next to', 0.2, 0.0, None),
        ('next to', 0.4, 0.0, False),
    ],
)
def test_relations(relation: str, x: float, away: float, expected: bool | None) -> None:
    scene = view(item(0, BOWLS[0], x, away), item(1, 'green_plate', 0.0))
    assert HOLDS[relation](scene.seen[0], scene.seen[1]) is expected


@pytest.mark.parametrize(
    ('x', 'away', 'expected'),
    [(0.0, 0.0, True), (0.05, 0.05, True), (0.5, 0.0, False), (0.0, 0.5, False), (0.0, 0.2, None)],
)
def test_between(x: float, away: float, expected: bool | None) -> None:
    scene = view(
        item(0, BOWLS[0], x, away), item(1, 'green_plate', -0.3), item(2, 'red_basket', 0.3)
    )
    assert referring.between(*scene.seen) is expected


def test_nearest_needs_a_clear_ratio_and_no_hidden_rival() -> None:
    plate = item(0, 'green_plate', 0.0)
    near, far = item(1, BOWLS[0], 0.2), item(2, BOWLS[1], 0.3)

    def nearest_bowl(*bowls: ObjectRecord) -> int | None:
        scene = view(plate, *bowls)
        found = referring.nearest(scene.pool('bowl'), scene.seen[0])
        return found.index if found else None

    assert nearest_bowl(near, far) == 1
    assert nearest_bowl(near, item(2, BOWLS[1], -0.24)) is None
    assert nearest_bowl(near, far, item(3, BOWLS[2], 0.1, visible=0.1)) is None
    assert nearest_bowl(near, far, item(3, BOWLS[2], 0.9, visible=0.1)) == 1
    assert nearest_bowl(near) is None


def test_select_wants_one_true_and_all_others_false() -> None:
    plate = item(0, 'green_plate', 0.0)
    left, right = item(1, BOWLS[0], -0.3), item(2, BOWLS[1], 0.3)

    def bowl_left_of_plate(*bowls: ObjectRecord) -> int | None:
        scene = view(plate, *bowls)
        found = scene.pool('bowl').select(lambda s: referring.left_of(s, scene.seen[0]))
        return found.index if found else None

    assert bowl_left_of_plate(left, right) == 1
    assert bowl_left_of_plate(left, item(2, BOWLS[1], -0.5)) is None
    assert bowl_left_of_plate(left, item(2, BOWLS[1], -0.05)) is None
    assert bowl_left_of_plate(left, item(2, BOWLS[1], -0.5, visible=0.1)) is None
    assert bowl_left_of_plate(left, item(2, BOWLS[1], 0.5, visible=0.1)) == 1
    assert bowl_left_of_plate(right) is None


def test_orders() -> None:
    places = (0.4, -0.4, 0.0)
    row = [item(i, name, places[i], 0.2 * i) for i, name in enumerate(BOWLS)]
    pool = view(*row).pool('bowl')
    found = {order: seen.index for order in RANKS if (seen := ranked(pool, order))}
    assert found == {
        'leftmost': 1,
        'rightmost': 0,
        'second from the left': 2,
        'second from the right': 2,
        'nearest to the camera': 0,
        'farthest from the camera': 2,
    }


def test_close_neighbours_and_hidden_ones_have_no_order() -> None:
    pair = (item(0, BOWLS[0], 0.0), item(1, BOWLS[1], 0.05))
    assert ranked(view(*pair).pool('bowl'), 'leftmost') is None
    hidden = (item(0, BOWLS[0], -0.4, visible=0.1), item(1, BOWLS[1], 0.0), item(2, BOWLS[2], 0.4))
    pool = view(*hidden).pool('bowl')
    assert ranked(pool, 'leftmost') is None
    rightmost = ranked(pool, 'rightmost')
    assert rightmost
    assert rightmost.index == 2


def test_sizes() -> None:
    small = item(0, BOWLS[0], -0.3, size=(0.1, 0.1, 0.05))
    big = item(1, BOWLS[1], 0.0, size=(0.2, 0.2, 0.06))
    tall = item(2, BOWLS[2], 0.3, size=(0.1, 0.1, 0.12))
    pool = view(small, big, tall).pool('bowl')
    found = {size: sized(pool, size) for size in ('largest', 'smallest', 'tallest')}
    assert {size: seen and seen.index for size, seen in found.items()} == {
        'largest': 1,
        'smallest': 0,
        'tallest': 2,
    }
    near_equal = view(small, item(1, BOWLS[1], 0.0, size=(0.11, 0.1, 0.05))).pool('bowl')
    assert not any(sized(near_equal, size) for size in found)


def test_names_are_those_that_denote_one_object() -> None:
    scene = view(item(0, BOWLS[0], -0.3), item(1, BOWLS[1], 0.3))
    assert 'red bowl' in scene.names(scene.seen[1])
    assert 'bowl' not in scene.names(scene.seen[1])
    assert 'bowl' in scene.shared_nouns()
    hidden = view(item(0, BOWLS[0], -0.3, visible=0.1), item(1, BOWLS[1], 0.3))
    assert hidden.names(hidden.seen[0]) == ()
    assert 'bowl' not in hidden.names(hidden.seen[1])


def test_nothing_is_absent_while_it_is_hidden() -> None:
    scene = view(item(0, BOWLS[0], 0.0, visible=0.0), item(1, 'green_plate', 0.3))
    assert not scene.without_doubt_absent('bowl')
    assert not scene.nothing_serves('eat from')
    assert scene.without_doubt_absent('mug')
    assert scene.without_doubt_absent('hammer')


def test_unknown_objects_are_named() -> None:
    with pytest.raises(UnknownObjectError, match='green_dragon'):
        view(item(0, 'green_dragon', 0.0))
