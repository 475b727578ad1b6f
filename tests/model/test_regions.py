"""The region encoder: selection of peaks, boxes from edges, order."""

from __future__ import annotations

import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')

from unifiedmllm_ros.model.configuration import RegionVisionConfig  # noqa: E402
from unifiedmllm_ros.model.regions import DenseMaps, RegionVisionModel, left_to_right  # noqa: E402

CONFIG = RegionVisionConfig((64, 96), 16, 1, 3, ('mug', 'red'))


def maps_with(centres: list[tuple[int, int, float]]) -> DenseMaps:
    """Maps at stride 8 of a 64x96 image: heat logits at (row, column), edges of two cells."""
    heat = torch.full((1, 1, 8, 12), -9.0)
    words = torch.full((1, 2, 8, 12), -9.0)
    for row, column, logit in centres:
        heat[0, 0, row, column] = logit
        words[0, column % 2, row, column] = 9.0
    edges = torch.full((1, 4, 8, 12), 2.0)
    return DenseMaps(heat, edges, words, torch.zeros(1, 3, 8, 12), torch.zeros(1, 16, 8, 12))


def test_peaks_become_regions_from_left_to_right() -> None:
    regions = RegionVisionModel(CONFIG).select(maps_with([(4, 9, 3.0), (2, 2, 1.0), (5, 5, 2.0)]))
    assert regions.score.shape == (1, 3)
    centres = (regions.boxes[0, :, 0] + regions.boxes[0, :, 2]) / 2 * 12
    torch.testing.assert_close(centres, torch.tensor([2.5, 5.5, 9.5]))
    torch.testing.assert_close(regions.score[0], torch.sigmoid(torch.tensor([1.0, 2.0, 3.0])))
    assert (regions.words[0].argmax(-1) == torch.tensor([0, 1, 1])).all()


def test_box_edges_lie_the_predicted_distance_from_the_cell() -> None:
    regions = RegionVisionModel(CONFIG).select(maps_with([(4, 6, 5.0)]))
    best = int(regions.score[0].argmax())
    expected = torch.tensor([4.5 / 12, 2.5 / 8, 8.5 / 12, 6.5 / 8])
    torch.testing.assert_close(regions.boxes[0, best], expected)


def test_weaker_neighbour_of_a_peak_is_no_region_of_its_own() -> None:
    regions = RegionVisionModel(CONFIG).select(maps_with([(4, 6, 5.0), (4, 7, 4.0)]))
    assert int((regions.score[0] > 0.5).sum()) == 1


def test_boxes_stay_in_the_image() -> None:
    regions = RegionVisionModel(CONFIG).select(maps_with([(0, 0, 5.0), (7, 11, 5.0)]))
    assert float(regions.boxes.min()) >= 0
    assert float(regions.boxes.max()) <= 1


def test_order_moves_every_field_alike() -> None:
    regions = RegionVisionModel(CONFIG).eval()(torch.rand(2, 3, 64, 96))
    again = left_to_right(regions)
    for name in ('score', 'boxes', 'words', 'geometry', 'appearance'):
        torch.testing.assert_close(getattr(again, name), getattr(regions, name))
