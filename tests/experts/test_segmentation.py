"""The segmentation experts: masks that lie where things are, and weights that are wrong."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.experts.networks import BOX, write_channel_network
from unifiedmllm_ros.cancellation import never
from unifiedmllm_ros.errors import (
    Cancelled,
    ConfigError,
    MissingImageError,
    ModelError,
    ModelFileError,
)
from unifiedmllm_ros.experts.base import Expert, Progress, Request, unheard
from unifiedmllm_ros.experts.grabcut import GrabCut
from unifiedmllm_ros.experts.segmentation import MaskNetwork
from unifiedmllm_ros.representation import Box, Region
from unifiedmllm_ros.router import pixel_boxes


def blobs(height: int = 480, width: int = 640) -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]:
    """A grey image with a red ellipse left and a red circle at the right edge, and their masks."""
    image = np.full((height, width, 3), 60, np.uint8)
    masks = []
    for centre, axes in (((0.3, 0.5), (0.1, 0.2)), ((0.95, 0.4), (0.1, 0.15))):
        mask = np.zeros((height, width), np.uint8)
        place = (round(centre[0] * width), round(centre[1] * height))
        cv2.ellipse(
            mask, place, (round(axes[0] * width), round(axes[1] * height)), 0, 0, 360, 1, -1
        )
        image[mask > 0] = (250, 30, 30)
        masks.append(mask > 0)
    return image, masks


def around(mask: NDArray[np.bool_]) -> Box:
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    return Box(
        columns.min() / width,
        rows.min() / height,
        (columns.max() + 1) / width,
        (rows.max() + 1) / height,
    )


def request(image: NDArray[np.uint8], *boxes: Box) -> Request:
    regions = (Region('blob', boxes),)
    return Request(
        'seg', image=image, regions=regions, boxes=pixel_boxes(regions, *image.shape[:2])
    )


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize('size', [(48, 64), (480, 640), (1200, 1600)])
def test_the_network_outlines_each_thing_where_it_is(tmp_path: Path, size: tuple[int, int]) -> None:
    image, truth = blobs(*size)
    expert = MaskNetwork('net', write_channel_network(tmp_path / 'mask.onnx'), threads=1)
    result = expert.run(request(image, *map(around, truth)), unheard, never)
    assert [mask.phrase for mask in result.masks] == ['blob', 'blob']
    for mask, expected in zip(result.masks, truth, strict=True):
        assert iou(mask.full(*size), expected) > (0.85 if size[0] < 100 else 0.97)


def test_provenance_names_what_ran(tmp_path: Path) -> None:
    image, truth = blobs()
    path = write_channel_network(tmp_path / 'mask.onnx')
    provenance = (
        MaskNetwork('net', path, threads=1)
        .run(request(image, around(truth[0])), unheard, never)
        .provenance
    )
    assert (provenance.expert, provenance.backend) == ('net', 'onnxruntime')
    assert provenance.weights.startswith('mask.onnx sha256:')
    assert provenance.parameters == {'threads': 1}
    assert provenance.duration_ms > 0


def test_idle_threads_leave_the_cores_when_the_network_has_run(tmp_path: Path) -> None:
    image, truth = blobs()
    expert = MaskNetwork('net', write_channel_network(tmp_path / 'mask.onnx'), threads=2)
    expert.run(request(image, around(truth[0])), unheard, never)
    options = expert._session.get_session_options()
    assert options.get_session_config_entry('session.force_spinning_stop') == '1'


def test_more_boxes_than_one_batch_each_get_their_mask_and_progress_never_falls(
    tmp_path: Path,
) -> None:
    image, _ = blobs()
    boxes = [Box(i / 100, 0.1, i / 100 + 0.1, 0.5) for i in range(80)]
    expert = MaskNetwork('net', write_channel_network(tmp_path / 'mask.onnx', BOX), threads=1)
    heard: list[Progress] = []
    result = expert.run(request(image, *boxes), heard.append, never)
    assert [mask.box for mask in result.masks] == boxes
    for mask, box in zip(result.masks, boxes, strict=True):
        expected = (box.x2 - box.x1) * 640 * (box.y2 - box.y1) * 480
        assert mask.area == pytest.approx(expected, rel=0.08)
    fractions = [progress.fraction for progress in heard]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


@pytest.mark.parametrize('kind', ['network', 'grabcut'])
def test_a_cancel_stops_within_one_step_and_the_next_request_is_unaffected(
    tmp_path: Path, kind: str
) -> None:
    image, truth = blobs()
    expert: Expert = GrabCut('cut')
    if kind == 'network':
        expert = MaskNetwork('net', write_channel_network(tmp_path / 'mask.onnx'), threads=1)
    event = threading.Event()
    heard: list[Progress] = []

    def cancel_at_once(progress: Progress) -> None:
        heard.append(progress)
        event.set()

    boxes = [around(truth[0])] * 80
    with pytest.raises(Cancelled):
        expert.run(request(image, *boxes), cancel_at_once, event.is_set)
    assert len(heard) == 1
    result = expert.run(request(image, around(truth[0])), unheard, never)
    assert len(result.masks) == 1


def test_no_boxes_give_no_masks(tmp_path: Path) -> None:
    image, _ = blobs()
    expert = MaskNetwork('net', write_channel_network(tmp_path / 'mask.onnx'), threads=1)
    assert expert.run(Request('seg', image=image), unheard, never).masks == ()


def test_a_missing_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    expert = MaskNetwork('net', tmp_path / 'nothing.onnx')
    with pytest.raises(ModelFileError, match=r'nothing\.onnx.*experts\.yaml'):
        expert.load()


@pytest.mark.parametrize('kept', [0, 10, 0.5, 0.95])
def test_a_truncated_file_is_an_error(tmp_path: Path, kept: float) -> None:
    path = write_channel_network(tmp_path / 'mask.onnx')
    data = path.read_bytes()
    path.write_bytes(data[: round(kept * len(data)) if kept < 1 else int(kept)])
    with pytest.raises(ModelFileError, match=r'mask\.onnx'):
        MaskNetwork('net', path).load()


def test_a_network_of_another_version_is_an_error(tmp_path: Path) -> None:
    path = write_channel_network(tmp_path / 'mask.onnx', size=64)
    with pytest.raises(ModelFileError, match='not a mask network of this version'):
        MaskNetwork('net', path).load()


def test_numbers_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    image, truth = blobs()
    path = write_channel_network(tmp_path / 'mask.onnx', scale=float('nan'))
    with pytest.raises(ModelError, match='not finite'):
        MaskNetwork('net', path, threads=1).run(request(image, around(truth[0])), unheard, never)


def test_unloaded_weights_are_read_again(tmp_path: Path) -> None:
    image, truth = blobs()
    path = write_channel_network(tmp_path / 'mask.onnx')
    expert = MaskNetwork('net', path, threads=1)
    expert.load()
    expert.unload()
    path.unlink()
    with pytest.raises(ModelFileError):
        expert.run(request(image, around(truth[0])), unheard, never)


def test_grabcut_finds_what_stands_out_and_says_that_it_is_classical() -> None:
    image, truth = blobs()
    result = GrabCut('cut').run(request(image, *map(around, truth)), unheard, never)
    for mask, expected in zip(result.masks, truth, strict=True):
        assert iou(mask.full(480, 640), expected) > 0.9
    assert result.provenance.backend == 'classical'
    assert result.provenance.weights == ''


@pytest.mark.parametrize('box', [Box(0, 0, 1, 1), Box(0.5, 0.5, 0.501, 0.501)])
@pytest.mark.parametrize('size', [(2, 2), (48, 64), (1000, 40)])
def test_grabcut_lives_with_tiny_boxes_and_with_the_whole_image(
    box: Box, size: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    result = GrabCut('cut').run(request(image, box), unheard, never)
    assert result.masks[0].full(*size).shape == size


def test_grabcut_gives_the_same_mask_again() -> None:
    image = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
    wanted = request(image, Box(0.2, 0.2, 0.8, 0.8))
    first, second = (GrabCut('cut').run(wanted, unheard, never).masks[0] for _ in range(2))
    np.testing.assert_array_equal(first.pixels, second.pixels)


def test_experts_refuse_what_they_cannot_use(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='needs weights'):
        MaskNetwork('net', None)
    with pytest.raises(ConfigError, match='has no weights'):
        GrabCut('cut', tmp_path)
    with pytest.raises(ConfigError, match='iterations 0'):
        GrabCut('cut', iterations=0)
    with pytest.raises(MissingImageError):
        GrabCut('cut').run(Request('seg'), unheard, never)
