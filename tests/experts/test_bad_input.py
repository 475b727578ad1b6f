"""What a router with the shipped configuration makes of requests that are too odd or too much."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from unifiedmllm_ros.errors import ExpertError, ImageError, MissingImageError
from unifiedmllm_ros.experts.base import ImageResult, SegmentationResult, VideoSegmentationResult
from unifiedmllm_ros.representation import Box, Region, TaskCall
from unifiedmllm_ros.router import Router

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
PLACE = (Region('thing', (Box(0.2, 0.2, 0.6, 0.6),)),)
CALLS = (
    TaskCall('seg', '', PLACE),
    TaskCall('vidseg', '', PLACE),
    TaskCall('edit', 'make it darker'),
    TaskCall('regedit', 'remove the thing', PLACE),
)


@pytest.fixture(scope='module')
def router() -> Router:
    return Router.from_file()


@pytest.mark.parametrize('call', CALLS, ids=lambda call: call.task)
@pytest.mark.parametrize(
    ('image', 'named'),
    [
        (np.zeros((1, 80, 3), np.uint8), '80x1'),
        (np.zeros((0, 0, 3), np.uint8), '0x0'),
        (np.zeros((60, 80), np.uint8), r'\(60, 80\)'),
        (np.zeros((60, 80, 4), np.uint8), r'\(60, 80, 4\)'),
        (np.zeros((60, 80, 3), np.float32), 'float32'),
        (np.broadcast_to(np.zeros(3, np.uint8), (10_001, 10_000, 3)), '100 megapixels'),
    ],
)
def test_images_of_a_wrong_form_or_size_are_refused(
    router: Router, call: TaskCall, image: NDArray[np.uint8], named: str
) -> None:
    with pytest.raises(ImageError, match=named) as caught:
        router.run(call, image)
    assert caught.value.code == 'invalid_image'


@pytest.mark.parametrize('call', CALLS, ids=lambda call: call.task)
def test_no_image_is_told(router: Router, call: TaskCall) -> None:
    with pytest.raises(MissingImageError, match='give one') as caught:
        router.run(call)
    assert caught.value.code == 'missing_image'


@pytest.mark.parametrize(
    ('frames', 'named'),
    [
        ([IMAGE, IMAGE[:50]], 'frame 2 of the video is 80x50 and the first one 80x60'),
        ([IMAGE[..., 0]], 'convert it to RGB'),
    ],
)
def test_frames_of_a_wrong_size_are_refused(
    router: Router, frames: Sequence[NDArray[np.uint8]], named: str
) -> None:
    with pytest.raises(ImageError, match=named):
        router.run(CALLS[1], IMAGE, frames=frames)


def test_frames_without_their_first_are_refused(router: Router) -> None:
    with pytest.raises(MissingImageError):
        router.run(TaskCall('gen', 'a cat'), frames=[IMAGE])


def test_fifty_boxes_give_fifty_masks(router: Router) -> None:
    boxes = tuple(Box(i / 100, i / 100, i / 100 + 0.3, i / 100 + 0.3) for i in range(50))
    regions = (Region('thing', boxes),)
    result = router.run(TaskCall('seg', '', regions), IMAGE)
    assert isinstance(result, SegmentationResult)
    assert [mask.box for mask in result.masks] == list(boxes)
    video = router.run(TaskCall('vidseg', '', regions), IMAGE, frames=[IMAGE])
    assert isinstance(video, VideoSegmentationResult)
    assert [len(masks) for masks in video.frames] == [50, 50]
    edited = router.run(TaskCall('regedit', 'make it darker', regions), IMAGE)
    assert isinstance(edited, ImageResult)


@pytest.mark.parametrize('size', [(2, 2), (60, 80), (3, 900)])
@pytest.mark.parametrize('call', CALLS, ids=lambda call: call.task)
def test_a_box_of_a_pixel_in_an_image_of_any_size_is_no_trouble(
    router: Router, call: TaskCall, size: tuple[int, int]
) -> None:
    image = np.full((*size, 3), 90, np.uint8)
    dot = (Region('dot', (Box(0.999, 0.999, 1.0, 1.0),)),) if call.regions else ()
    router.run(TaskCall(call.task, call.argument, dot), image)


@pytest.mark.parametrize('call', CALLS, ids=lambda call: call.task)
def test_a_prompt_of_5000_characters_is_done_or_refused_in_few_words(
    router: Router, call: TaskCall
) -> None:
    long = TaskCall(call.task, 'remove <p>&\x00 ' + 'é' * 5000, call.regions)
    told = ''
    try:
        router.run(long, IMAGE)
    except ExpertError as error:
        told = str(error)
    assert len(told) < 1000


@pytest.mark.parametrize('call', CALLS, ids=lambda call: call.task)
def test_the_same_seed_gives_the_same_bits(router: Router, call: TaskCall) -> None:
    first, second = (router.run(call, IMAGE, frames=[IMAGE], seed=9) for _ in range(2))
    assert first.provenance.seed == 9
    for one, two in zip(arrays(first), arrays(second), strict=True):
        np.testing.assert_array_equal(one, two)


def arrays(result: object) -> list[NDArray[np.generic]]:
    match result:
        case ImageResult(images=images):
            return list(images)
        case SegmentationResult(masks=masks):
            return [mask.pixels for mask in masks]
        case VideoSegmentationResult(frames=frames):
            return [mask.pixels for masks in frames for mask in masks]
    raise AssertionError(type(result))
