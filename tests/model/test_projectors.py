"""The places beside regions are those where the table's edits put something new."""

from __future__ import annotations

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unifiedmllm_ros.model.projectors import PLACE_FEATURES, place_features, places_beside
from unifiedmllm_ros.model.regions import Regions
from unifiedmllm_ros.tabletop.changing import GAP, LARGEST, free_box

shares = st.floats(0.0, 0.6, allow_subnormal=False)
sizes = st.floats(0.04, 0.4)
boxes = st.tuples(shares, shares, sizes, sizes).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


def regions_at(corners: list[tuple[float, ...]], score: float = 0.9) -> Regions:
    count = len(corners)
    return Regions(
        torch.full((1, count), score),
        torch.tensor([corners], dtype=torch.float32),
        torch.zeros(1, count, 4),
        torch.zeros(1, count, 3),
        torch.zeros(1, count, 8),
    )


@settings(max_examples=200, deadline=None)
@given(boxes, boxes)
@example(thing=(0.05, 0.0, 0.09, 0.25), other=(0.125, 0.0, 0.375, 0.25))
def test_places_are_those_of_the_edits(thing: tuple[float, ...], other: tuple[float, ...]) -> None:
    places = places_beside(regions_at([thing, other]), GAP, *LARGEST)
    for side, name in enumerate(('left of', 'right of')):
        box = free_box(thing, name, [other])  # type: ignore[arg-type]
        alone = free_box(thing, name, [])  # type: ignore[arg-type]
        far = float(places.far[0, 0, side])
        if alone is not None:
            assert abs(far - alone.corners[2 * side]) < 1e-3
        if box is not None:
            # In single precision a thing may touch that does not in double, or leave the picture.
            edge = min(box.corners[0], 1 - box.corners[2])
            assert places.free[0, 0, side] == 1 or _grazes(thing, other) or edge < 1e-6


def _grazes(thing: tuple[float, ...], other: tuple[float, ...]) -> bool:
    shrunk = (other[0] + 1e-5, other[1] + 1e-5, other[2] - 1e-5, other[3] - 1e-5)
    places = places_beside(regions_at([thing, shrunk]), GAP, *LARGEST)
    return bool(places.free[0, 0].any())


def test_a_place_is_free_where_nothing_stands_and_the_picture_goes_on() -> None:
    thing, beside, double = (0.1, 0.4, 0.2, 0.6), (0.22, 0.5, 0.3, 0.7), (0.11, 0.4, 0.2, 0.6)
    places = places_beside(regions_at([thing, beside]), GAP, *LARGEST)
    assert places.free[0].tolist() == [[0, 0], [0, 1]]  # no room to the left, taken to the right
    weak = regions_at([thing, beside], score=0.1)
    assert places_beside(weak, GAP, *LARGEST).free[0, 0].tolist() == [0, 1]
    # Two regions of one thing are not in each other's way.
    assert places_beside(regions_at([thing, double]), GAP, *LARGEST).free[0, 0].tolist() == [0, 1]


def test_wide_and_tall_things_have_smaller_places() -> None:
    places = places_beside(
        regions_at([(0.3, 0.1, 0.6, 0.9), (0.65, 0.3, 0.8, 0.5)]), 0.01, 0.2, 0.3
    )
    torch.testing.assert_close(places.far[0, 0], torch.tensor([0.09, 0.81]))
    assert places.free[0, 0].tolist() == [1, 1]  # the other one stands higher than the place


def test_features_of_places() -> None:
    places = places_beside(regions_at([(0.3, 0.4, 0.4, 0.6), (0.7, 0.4, 0.8, 0.6)]), GAP, *LARGEST)
    features = place_features(places)
    assert features.shape == (1, 2, PLACE_FEATURES)
    torch.testing.assert_close(features[..., -2:], places.free)
