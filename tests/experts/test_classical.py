"""The classical fallbacks: what they change, what they leave alone, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.experts.networks import RED, write_channel_network
from unifiedmllm_ros.cancellation import never
from unifiedmllm_ros.errors import Cancelled, ConfigError, ExpertError, MissingImageError
from unifiedmllm_ros.experts.base import Expert, ImageResult, Progress, Request, unheard
from unifiedmllm_ros.experts.classical_edit import ClassicalEdit
from unifiedmllm_ros.experts.classical_looks import LOOKS, wishes
from unifiedmllm_ros.experts.classical_region_edit import ClassicalRegionEdit
from unifiedmllm_ros.representation import Box, Region
from unifiedmllm_ros.router import pixel_boxes

CAN = Box(0.25, 0.25, 0.5, 0.75)
BOXES = (Box(0, 0, 0.001, 0.001), Box(0.5, 0.5, 0.503, 0.503), Box(0, 0, 1, 1))


def table(height: int = 120, width: int = 160) -> NDArray[np.uint8]:
    """A wooden table, with some grain, and a red can in the box CAN."""
    grain = np.random.default_rng(0).integers(0, 12, (height, width, 1), np.uint8)
    image = np.full((height, width, 3), (150, 110, 70), np.uint8) + grain
    image[round(0.3 * height) : round(0.7 * height), round(0.3 * width) : round(0.45 * width)] = (
        220,
        30,
        30,
    )
    return image


def asked(argument: str, image: NDArray[np.uint8], *boxes: Box, phrase: str = 'can') -> Request:
    regions = (Region(phrase, boxes),) if boxes else ()
    places = pixel_boxes(regions, *image.shape[:2])
    return Request('regedit', argument, image, regions, places, 5)


def edited(expert: Expert, request: Request) -> NDArray[np.uint8]:
    result = expert.run(request, unheard, never)
    assert isinstance(result, ImageResult)
    (image,) = result.images
    assert image.dtype == np.uint8
    assert request.image is not None
    assert image.shape == request.image.shape
    assert result.provenance.backend == 'classical'
    assert result.provenance.seed == 5 or request.task == 'edit'
    assert 'Classical stand-in' in result.provenance.notices[0]
    return image


def hue(image: NDArray[np.uint8]) -> float:
    return float(np.median(cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[..., 0]))


@pytest.fixture
def region_edit(tmp_path: Path) -> ClassicalRegionEdit:
    network = write_channel_network(tmp_path / 'mask.onnx', RED, offset=0.7)
    return ClassicalRegionEdit('hand', network, feather=4, threads=1)


def outside(shape: tuple[int, ...], box: Box, feather: int) -> NDArray[np.bool_]:
    left, top, right, bottom = box.pixels(shape[1], shape[0])
    away = np.ones(shape[:2], bool)
    away[
        max(int(top) - feather, 0) : int(np.ceil(bottom)) + feather,
        max(int(left) - feather, 0) : int(np.ceil(right)) + feather,
    ] = False
    return away


@pytest.mark.parametrize(
    'words', ['remove the can', 'take the can away', 'Erase it!', 'get rid of the tin']
)
def test_what_is_removed_gives_way_to_its_surroundings(
    region_edit: ClassicalRegionEdit, words: str
) -> None:
    image = table()
    found = edited(region_edit, asked(words, image, CAN))
    can = found[36:84, 48:72].astype(int)
    assert np.abs(can - (156, 116, 76)).max() < 25
    away = outside(image.shape, CAN, 4)
    np.testing.assert_array_equal(found[away], image[away])
    assert (image[40, 60] == (220, 30, 30)).all()  # the request's own image is not touched


def test_a_box_will_do_where_there_is_no_network() -> None:
    image, expert = table(), ClassicalRegionEdit('box', feather=4)
    found = edited(expert, asked('remove it', image, CAN))
    assert np.abs(found[36:84, 48:72].astype(int) - (156, 116, 76)).max() < 25
    away = outside(image.shape, CAN, 4)
    np.testing.assert_array_equal(found[away], image[away])


@pytest.mark.parametrize(('colour', 'expected'), [('blue', 115), ('green', 60), ('yellow', 28)])
def test_recolouring_turns_the_thing_and_not_the_table(
    region_edit: ClassicalRegionEdit, colour: str, expected: int
) -> None:
    image = table()
    found = edited(region_edit, asked(f'now paint the red can {colour}', image, CAN))
    assert hue(found[40:80, 50:70]) == pytest.approx(expected, abs=2)
    # Inside the box but beside the can: nothing glows.
    np.testing.assert_array_equal(found[32:88, 72 + 4 : 80], image[32:88, 72 + 4 : 80])


def test_black_and_white_things(region_edit: ClassicalRegionEdit) -> None:
    image = table()
    black, white = (
        edited(region_edit, asked(f'make it {colour}', image, CAN))[60, 60]
        for colour in ('black', 'white')
    )
    assert black.max() < white.min()
    assert np.ptp(white.astype(int)) < 30


def test_looks_work_inside_boxes_too(region_edit: ClassicalRegionEdit) -> None:
    image = table()
    found = edited(region_edit, asked('blur the can', image, CAN))
    away = outside(image.shape, CAN, 4)
    np.testing.assert_array_equal(found[away], image[away])
    assert (found != image).any()


@pytest.mark.parametrize(
    'words',
    [
        'replace the can with an apple',
        'remove the can and add a cup',
        'turn the can into a red apple',
        'put a hat on it',
        'make it talk',
        '?',
    ],
)
def test_what_needs_a_generator_is_refused_and_one_is_named(
    region_edit: ClassicalRegionEdit, words: str
) -> None:
    with pytest.raises(ExpertError, match=r"'hand' is a classical fallback.*gligen_inpaint"):
        region_edit.run(asked(words, table(), CAN), unheard, never)


def test_fifty_boxes_and_overlapping_ones_are_all_done(region_edit: ClassicalRegionEdit) -> None:
    image = table()
    boxes = [Box(i / 60, 0.2, i / 60 + 0.1, 0.6) for i in range(50)]
    heard: list[Progress] = []
    result = region_edit.run(asked('make it darker', image, *boxes), heard.append, never)
    assert (result.images[0] != image).any()
    fractions = [one.fraction for one in heard]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert len(heard) == 52


@pytest.mark.parametrize('size', [(2, 2), (40, 60), (120, 160)])
@pytest.mark.parametrize(
    'box', [Box(0, 0, 0.001, 0.001), Box(0.5, 0.5, 0.503, 0.503), Box(0, 0, 1, 1)]
)
@pytest.mark.parametrize('words', ['remove it', 'make it blue', 'pixelate it'])
def test_tiny_and_whole_boxes(tmp_path: Path, size: tuple[int, int], box: Box, words: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    network = write_channel_network(tmp_path / 'mask.onnx', RED)
    for expert in (ClassicalRegionEdit('net', network, 2), ClassicalRegionEdit('box', None, 2)):
        found = edited(expert, asked(words, image, box))
        away = outside(image.shape, box, 3)
        np.testing.assert_array_equal(found[away], image[away])


def test_a_long_instruction_is_read_or_refused(region_edit: ClassicalRegionEdit) -> None:
    request = asked('remove the can ' + 'please ' * 700, table(), CAN)
    assert len(request.argument) > 4900
    edited(region_edit, request)
    with pytest.raises(ExpertError) as caught:
        ClassicalEdit('hand').run(asked('verbose ' * 700, table()), unheard, never)
    assert len(str(caught.value)) < 1000


def test_a_cancel_stops_between_boxes_and_the_next_one_is_unaffected(
    region_edit: ClassicalRegionEdit,
) -> None:
    image, heard = table(), []
    request = asked('remove it', image, *[CAN] * 5)
    with pytest.raises(Cancelled):
        region_edit.run(request, heard.append, lambda: len(heard) >= 2)
    assert len(heard) == 2
    first = edited(region_edit, asked('remove it', image, CAN))
    np.testing.assert_array_equal(first, edited(region_edit, asked('remove it', image, CAN)))


@pytest.mark.parametrize('look', LOOKS)
def test_every_look_changes_the_picture_and_does_so_again_the_same(look: str) -> None:
    image = cv2.GaussianBlur(table(), (0, 0), 1)
    request = Request('edit', f'make it {look}', image)
    found = edited(ClassicalEdit('hand'), request)
    assert (found != image).any()
    np.testing.assert_array_equal(found, edited(ClassicalEdit('hand'), request))


@pytest.mark.parametrize(
    ('words', 'looks'),
    [
        ('now make it brighter', ['brighter']),
        ('Turn the picture into a black and white photo, please.', ['black and white']),
        ('make it look like night', ['night']),
        ('less bright and a bit warmer', ['darker', 'warmer']),
        ('more contrast', ['more contrast']),
        ('sepia, then blur it', ['sepia', 'blur']),
        ('a pencil drawing', ['sketch']),
    ],
)
def test_instructions_are_read(words: str, looks: list[str]) -> None:
    assert [wish.look.name for wish in wishes(words)] == looks


def test_how_much_counts() -> None:
    image = table()
    means = [
        edited(ClassicalEdit('hand'), Request('edit', f'make it {much}darker', image)).mean()
        for much in ('slightly ', '', 'much ')
    ]
    assert image.mean() > means[0] > means[1] > means[2]


@pytest.mark.parametrize(
    ('look', 'check'),
    [
        ('brighter', lambda old, new: new.mean() > old.mean()),
        ('night', lambda old, new: new.mean() < 0.6 * old.mean()),
        ('warmer', lambda old, new: (new[..., 0] > old[..., 0]).mean() > 0.9),
        ('colder', lambda old, new: (new[..., 2] > old[..., 2]).mean() > 0.9),
        ('black and white', lambda old, new: (np.ptp(new, axis=-1) == 0).all()),
        ('more contrast', lambda old, new: new.std() > old.std()),
        (
            'less colourful',
            lambda old, new: np.ptp(new, axis=-1).mean() < np.ptp(old, axis=-1).mean(),
        ),
        ('inverted', lambda old, new: (new == 255 - old).all()),
    ],
)
def test_looks_are_what_they_are_called(look: str, check) -> None:  # type: ignore[no-untyped-def]
    image = table()
    assert check(image, edited(ClassicalEdit('hand'), Request('edit', look, image)))


@pytest.mark.parametrize(
    'words', ['make the sky blue', 'turn the mug into a cat', 'brighter with snow', 'make it', '']
)
def test_an_instruction_about_more_than_looks_is_refused_with_the_remedy(words: str) -> None:
    with pytest.raises(ExpertError, match='instruct_pix2pix'):
        ClassicalEdit('hand').run(Request('edit', words, table()), unheard, never)


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='has no weights'):
        ClassicalEdit('hand', tmp_path)
    with pytest.raises(ConfigError, match='feather -1'):
        ClassicalRegionEdit('hand', feather=-1)
    with pytest.raises(ConfigError, match="mask 'circle'"):
        ClassicalRegionEdit('hand', mask='circle')
    for expert in (ClassicalEdit('hand'), ClassicalRegionEdit('hand')):
        with pytest.raises(MissingImageError):
            expert.run(Request('edit', 'remove it'), unheard, never)
