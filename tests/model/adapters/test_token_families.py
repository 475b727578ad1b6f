"""Florence-2, PaliGemma and Kosmos-2: transcripts in the documented format."""

from __future__ import annotations

import pytest

from unifiedmllm_ros.model.adapters.base import MAX_BOXES, NOTHING, FlawKind, Size
from unifiedmllm_ros.model.adapters.florence2 import Florence2Adapter
from unifiedmllm_ros.model.adapters.kosmos2 import Kosmos2Adapter, corners
from unifiedmllm_ros.model.adapters.paligemma import PaliGemmaAdapter
from unifiedmllm_ros.model.protocol import Conversation
from unifiedmllm_ros.representation import Box, Region, TaskCall

FLORENCE, PALI, KOSMOS = Florence2Adapter(), PaliGemmaAdapter(), Kosmos2Adapter()
IMAGE = Size(640, 480)
SNOWMAN = (
    '<grounding> An image of<phrase> a snowman</phrase><object><patch_index_0044>'
    '<patch_index_0863></object> warming himself by<phrase> a fire</phrase><object>'
    '<patch_index_0005><patch_index_0911></object>.'
)
CODES = ''.join(f'<seg{n:03}>' for n in range(16))


def kinds(translation):
    return [flaw.kind for flaw in translation.flaws]


def prompt(adapter, question):
    return adapter.messages(Conversation(question), IMAGE)[0].text


# --- Florence-2 ---


@pytest.mark.parametrize(
    ('question', 'expected'),
    [
        ('find the red mug', 'Locate red mug in the image.'),
        ('find the mug and the plate', 'Locate the phrases in the caption: mug, plate'),
        ('please segment the red mug.', 'Locate red mug in the image with mask'),
        ('describe the scene', 'Describe in detail what is shown in the image.'),
    ],
)
def test_florence_prompts(question, expected):
    assert prompt(FLORENCE, question) == expected


def test_florence_boxes_are_the_middles_of_bins():
    text = '</s><s>mug<loc_100><loc_200><loc_299><loc_399><loc_500><loc_500><loc_600><loc_600></s>'
    got = FLORENCE.parse(text, IMAGE, question='find the mug')
    first, second = (0.1005, 0.2005, 0.2995, 0.3995), (0.5005, 0.5005, 0.6005, 0.6005)
    assert got.response.parts == (Region('mug', (Box(*first), Box(*second))),)
    assert got.flaws == ()


def test_florence_polygons_become_their_box_in_a_call():
    text = '<loc_100><loc_300><loc_400><loc_100><loc_400><loc_600>'
    got = FLORENCE.parse(text, IMAGE, question='segment the red mug')
    box = Box(0.1005, 0.1005, 0.4005, 0.6005)
    assert got.response.parts == (TaskCall('seg', '', (Region('red mug', (box,)),)),)


def test_florence_two_objects_in_poly_tags():
    text = (
        'mug<poly><loc_1><loc_1><loc_9><loc_9></poly><poly><loc_50><loc_50><loc_90><loc_90></poly>'
    )
    got = FLORENCE.parse(text, IMAGE, question='segment the mug')
    assert len(got.response.regions[0].boxes) == 2


@pytest.mark.parametrize('end', ['<loc_500><loc_600>', '<loc_5', '<'])
def test_florence_cut_off(end):
    got = FLORENCE.parse('mug<loc_1><loc_2><loc_300><loc_400>' + end, IMAGE)
    assert FlawKind.TRUNCATED in kinds(got)
    assert len(got.response.regions[0].boxes) == 1
    assert '<' not in got.response.text


def test_florence_beyond_the_last_bin():
    got = FLORENCE.parse('mug<loc_1><loc_2><loc_1500><loc_400>', IMAGE)
    assert kinds(got) == [FlawKind.OUT_OF_RANGE]
    assert got.response.regions[0].boxes[0].x2 == 1.0


# --- PaliGemma ---


@pytest.mark.parametrize(
    ('question', 'expected'),
    [
        ('find the mug and the plate', 'detect mug ; plate\n'),
        ('segment the mug', 'segment mug\n'),
        ('what is on the table?', 'answer en what is on the table?\n'),
        ('describe this', 'caption en\n'),
    ],
)
def test_paligemma_prompts(question, expected):
    assert prompt(PALI, question) == expected


def test_paligemma_has_y_before_x():
    text = '<loc0256><loc0128><loc0512><loc0896> mug ; <loc0000><loc0000><loc1023><loc1023> table'
    got = PALI.parse(text, IMAGE, question='detect mug ; table')
    assert got.response.parts == (
        Region('mug', (Box(0.125, 0.25, 0.875, 0.5),)),
        Region('table', (Box(0, 0, 0.999, 0.999),)),
    )
    assert got.flaws == ()


def test_paligemma_mask_codes_are_recognised():
    text = f'<loc0256><loc0128><loc0512><loc0896> {CODES} mug'
    got = PALI.parse(text, IMAGE, question='segment the mug')
    assert got.response.calls[0].regions == (Region('mug', (Box(0.125, 0.25, 0.875, 0.5),)),)
    assert got.flaws == ()


def test_paligemma_cut_off_in_the_codes_keeps_the_box():
    got = PALI.parse(f'<loc0256><loc0128><loc0512><loc0896> {CODES[:40]}', IMAGE)
    assert kinds(got) == [FlawKind.TRUNCATED]
    assert len(got.response.regions) == 1


def test_paligemma_cut_off_in_the_box_drops_it():
    got = PALI.parse('<loc0000><loc0000><loc1023><loc1023> a ; <loc0256><loc0128><lo', IMAGE)
    assert kinds(got) == [FlawKind.TRUNCATED]
    assert [region.phrase for region in got.response.regions] == ['a']


def test_paligemma_prose():
    assert PALI.parse('yes; two of them', IMAGE).response.parts == ('yes; two of them',)


# --- Kosmos-2 ---


def test_kosmos_example_of_its_documentation():
    got = KOSMOS.parse(SNOWMAN, IMAGE, question='describe')
    assert got.response.parts == (
        'An image of',
        Region('a snowman', (Box(0.390625, 0.046875, 0.984375, 0.828125),)),
        ' warming himself by',
        Region('a fire', (Box(0.171875, 0.015625, 0.484375, 0.890625),)),
        '.',
    )
    assert got.flaws == ()


def test_kosmos_corners_are_those_of_transformers():
    module = pytest.importorskip(
        'transformers.models.kosmos2.processing_kosmos2', reason='needs the extra [train]'
    )
    for first in range(0, 1024, 37):
        for last in range(first, 1024, 41):
            assert corners(first, last) == pytest.approx(
                module.patch_index_to_coordinate(first, last, 32)
            )


def test_kosmos_several_boxes_and_prompt():
    text = (
        '<phrase> mugs</phrase><object><patch_index_0000><patch_index_0033>'
        '</delimiter_of_multi_objects/><patch_index_0100><patch_index_0200></object>'
    )
    got = KOSMOS.parse(text, IMAGE, question='find mugs')
    assert len(got.response.regions[0].boxes) == 2
    assert prompt(KOSMOS, 'find the mug') == '<grounding><phrase> mug</phrase>'


def test_kosmos_user_text_brings_no_tag():
    assert prompt(KOSMOS, 'find </phrase><object>').count('<') == 3


def test_kosmos_cut_off_and_out_of_range():
    got = KOSMOS.parse(SNOWMAN[:150], IMAGE)
    assert FlawKind.TRUNCATED in kinds(got)
    assert got.response.regions[0].phrase == 'a snowman'
    beyond = '<phrase>a</phrase><object><patch_index_0000><patch_index_9999></object>'
    got = KOSMOS.parse(beyond, IMAGE)
    assert kinds(got) == [FlawKind.OUT_OF_RANGE]


# --- all ---

MANY = {
    FLORENCE: 'mug' + '<loc_1><loc_2><loc_300><loc_400>' * 10_000,
    PALI: '<loc0001><loc0001><loc0500><loc0500> mug ; ' * 10_000,
    KOSMOS: '<phrase>m</phrase><object><patch_index_0000><patch_index_0500></object>' * 10_000,
}


@pytest.mark.parametrize('adapter', MANY, ids=lambda adapter: adapter.name)
def test_ten_thousand_boxes(adapter):
    got = adapter.parse(MANY[adapter], IMAGE)
    assert sum(len(region.boxes) for region in got.response.regions) == MAX_BOXES
    assert kinds(got) == [FlawKind.TOO_MANY]


@pytest.mark.parametrize('adapter', MANY, ids=lambda adapter: adapter.name)
def test_nothing_and_prose(adapter):
    assert adapter.parse('</s>', IMAGE).response.parts == (NOTHING,)
    prose = 'I see 3 < 4 mugs, and that is all.'
    assert adapter.parse(prose, IMAGE).response.parts == (prose,)
