"""The router: from strings to experts, without any model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.experts.networks import BOX, write_channel_network
from unifiedmllm_ros.errors import (
    Cancelled,
    ExpertError,
    ExpertNotInstalledError,
    MissingArgumentError,
    MissingImageError,
    MissingRegionError,
    UnifiedMLLMError,
    UnknownTaskError,
)
from unifiedmllm_ros.experts.base import Progress, SegmentationResult
from unifiedmllm_ros.representation import Box, Region, TaskCall, parse
from unifiedmllm_ros.router import Router, make_request, pixel_box

IMAGE = np.full((60, 80, 3), 127, np.uint8)
MUG = Region('mug', (Box(0.25, 0.5, 0.5, 0.75), Box(0.5, 0.0, 1.0, 0.5)))
FILE = """
experts:
  net:
    implementation: unifiedmllm_ros.experts.segmentation:MaskNetwork
    kind: segmentation
    weights: mask.onnx
    defaults: {threads: 1}
tasks: {seg: net}
"""


@pytest.fixture
def router(tmp_path: Path) -> Router:
    write_channel_network(tmp_path / 'mask.onnx', BOX)
    (tmp_path / 'experts.yaml').write_text(FILE, encoding='utf-8')
    return Router.from_file(tmp_path / 'experts.yaml')


def test_a_call_read_from_text_becomes_masks(router: Router) -> None:
    text = '<seg><p>mug</p><box>[0.250, 0.500, 0.500, 0.750]</box></seg>'
    (call,) = parse(f'Here: {text}')[0].calls
    result = router.run(call, IMAGE)
    assert isinstance(result, SegmentationResult)
    (mask,) = result.masks
    expected = np.zeros((60, 80), bool)
    expected[30:45, 20:40] = True
    wrong = mask.full(60, 80) ^ expected
    assert wrong.sum() < 20
    assert result.provenance.expert == 'net'


def test_calls_run_in_order_with_one_progress(router: Router) -> None:
    calls = [TaskCall('seg', '', (Region(name, (Box(0, 0, 1, 1),)),)) for name in 'abc']
    heard: list[Progress] = []
    results = router.run_all(calls, IMAGE, progress=heard.append)
    assert [result.masks[0].phrase for result in results] == ['a', 'b', 'c']  # type: ignore[attr-defined]
    fractions = [progress.fraction for progress in heard]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


@pytest.mark.parametrize(
    ('call', 'image', 'error', 'remedy'),
    [
        (TaskCall('dance'), IMAGE, UnknownTaskError, 'register_task'),
        (TaskCall('seg'), IMAGE, MissingRegionError, '<p>phrase</p>'),
        (TaskCall('regedit', 'remove it'), IMAGE, MissingRegionError, '<box>'),
        (TaskCall('regedit', ' ', (MUG,)), IMAGE, MissingArgumentError, 'say what'),
        (TaskCall('gen'), None, MissingArgumentError, 'say what'),
        (TaskCall('seg', '', (MUG,)), None, MissingImageError, 'give one'),
        (TaskCall('edit', 'make it night', (MUG,)), IMAGE, ExpertError, 'leave them out'),
        (TaskCall('edit', 'make it night'), IMAGE, ExpertNotInstalledError, 'experts.yaml'),
    ],
)
def test_each_mistake_has_its_error_and_names_the_remedy(
    router: Router,
    call: TaskCall,
    image: np.ndarray | None,
    error: type[UnifiedMLLMError],
    remedy: str,
) -> None:
    with pytest.raises(error) as caught:
        router.run(call, image)
    assert type(caught.value) is error
    assert remedy in str(caught.value)
    assert call.task in str(caught.value)


def test_a_cancelled_call_does_not_start(router: Router) -> None:
    with pytest.raises(Cancelled):
        router.run(TaskCall('seg', '', (MUG,)), IMAGE, cancel=lambda: True)
    assert router.registry.list()[0].state == 'available'


def test_a_request_holds_the_regions_in_pixels_in_order() -> None:
    request = make_request(TaskCall('seg', 'neatly', (MUG,)), IMAGE, seed=7)
    assert [box.edges for box in request.boxes] == [(20, 30, 40, 45), (40, 0, 80, 30)]
    assert [box.phrase for box in request.boxes] == ['mug', 'mug']
    assert (request.argument, request.seed, request.regions) == ('neatly', 7, (MUG,))


def test_a_call_without_image_needs_none() -> None:
    request = make_request(TaskCall('layout', 'a mug', (MUG,)), None)
    assert request.image is None
    assert request.boxes == ()
    assert request.regions == (MUG,)


@pytest.mark.parametrize('box', [Box(0, 0, 0.001, 0.001), Box(0.999, 0.999, 1, 1), Box(0, 0, 1, 1)])
@pytest.mark.parametrize('size', [(2, 2), (3, 500), (480, 640)])
def test_a_box_is_at_least_one_pixel_inside_the_image(box: Box, size: tuple[int, int]) -> None:
    height, width = size
    place = pixel_box('x', box, height, width)
    assert place.right - place.left >= 1 - 1e-9
    assert place.bottom - place.top >= 1 - 1e-9
    assert min(place.left, place.top) >= 0
    assert place.right <= width
    assert place.bottom <= height
