"""Qwen-VL transcripts in the documented format, and what models make of it."""

from __future__ import annotations

import ast
import importlib.util
import json
import math
from pathlib import Path

import pytest

from unifiedmllm_ros.model.adapters.base import MAX_BOXES, NOTHING, FlawKind, Size
from unifiedmllm_ros.model.adapters.qwen import QwenAdapter, smart_resize
from unifiedmllm_ros.model.protocol import Conversation, Turn
from unifiedmllm_ros.representation import Box, Region, TaskCall, format, parse

PIXELS = QwenAdapter('qwen2.5-vl', relative=False)
RELATIVE = QwenAdapter('qwen3-vl', relative=True)
IMAGE = Size(560, 280)
WHOLE = """```json
[
\t{"bbox_2d": [56, 28, 280, 140], "label": "red mug"},
\t{"bbox_2d": [280, 140, 560, 280], "label": "plate"}
]
```"""


def kinds(translation):
    return [flaw.kind for flaw in translation.flaws]


def test_pixels_of_the_resized_image():
    got = PIXELS.parse(WHOLE, IMAGE, question='find the mug and the plate')
    assert got.flaws == ()
    assert got.response.parts == (
        Region('red mug', (Box(0.1, 0.1, 0.5, 0.5),)),
        Region('plate', (Box(0.5, 0.5, 1.0, 1.0),)),
    )


def test_the_size_the_model_saw_counts_not_that_of_the_camera():
    camera = Size(1000, 1000)
    assert smart_resize(camera) == Size(1008, 1008)
    got = PIXELS.parse('[{"bbox_2d": [0, 0, 504, 1008], "label": "a"}]', camera)
    assert got.response.regions[0].boxes == (Box(0, 0, 0.5, 1),)
    known = PIXELS.parse('[{"bbox_2d": [0, 0, 5, 10], "label": "a"}]', camera, Size(10, 10))
    assert known.response.regions[0].boxes == (Box(0, 0, 0.5, 1),)


def test_thousandths():
    got = RELATIVE.parse('[{"bbox_2d": [412, 203, 587, 441], "label": "mug"}]', Size(77, 3000))
    assert got.response.regions == (Region('mug', (Box(0.412, 0.203, 0.587, 0.441),)),)


@pytest.mark.parametrize(
    ('image', 'limits', 'expected'),
    [
        (Size(640, 480), {}, Size(644, 476)),
        (Size(4000, 3000), {'max_pixels': 1280 * 28 * 28}, Size(1148, 840)),
        (Size(20, 10), {'min_pixels': 56 * 56}, Size(84, 56)),
    ],
)
def test_smart_resize(image, limits, expected):
    assert smart_resize(image, **limits) == expected


def published_smart_resize():
    """The function out of transformers' file, which itself needs torchvision to be imported."""
    spec = importlib.util.find_spec('transformers')
    if spec is None or spec.origin is None:
        pytest.skip('needs the extra [train]: transformers is not installed')
    path = Path(spec.origin).parent / 'models/qwen2_vl/image_processing_qwen2_vl.py'
    tree = ast.parse(path.read_text(encoding='utf-8'))
    body = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == 'smart_resize']
    names = {'math': math}
    exec(compile(ast.Module(body, []), str(path), 'exec'), names)
    return names['smart_resize']


def test_smart_resize_is_that_of_transformers():
    theirs = published_smart_resize()
    for width in range(30, 3000, 171):
        for height in range(30, 3000, 193):
            ours = smart_resize(Size(width, height), 28, 56 * 56, 1280 * 28 * 28)
            expected = theirs(height, width, 28, 56 * 56, 1280 * 28 * 28)
            assert (ours.height, ours.width) == expected


def test_instances_of_a_label_are_one_region():
    text = (
        '[' + ','.join(f'{{"bbox_2d":[{x},0,{x + 50},90],"label":"bowl"}}' for x in (0, 60)) + ']'
    )
    (region,) = RELATIVE.parse(text, IMAGE).response.regions
    assert region.phrase == 'bowl'
    assert len(region.boxes) == 2


def test_masks_are_asked_for_by_the_instruction():
    got = PIXELS.parse(WHOLE, IMAGE, question='segment the mug and the plate')
    (call,) = got.response.calls
    assert call.task == 'seg'
    assert [region.phrase for region in call.regions] == ['red mug', 'plate']


def test_a_task_object_becomes_a_call():
    text = (
        'I will take it away. {"task": "regedit", "argument": "remove the can", '
        '"regions": [{"bbox_2d": [100, 500, 215, 731], "label": "can"}]}'
    )
    got = RELATIVE.parse(text, IMAGE, question='take the can away')
    region = Region('can', (Box(0.1, 0.5, 0.215, 0.731),))
    assert got.response.parts == (
        'I will take it away.',
        TaskCall('regedit', 'remove the can', (region,)),
    )


@pytest.mark.parametrize('cut', range(40, len(WHOLE) - 12))
def test_cut_off_keeps_what_was_whole(cut):
    """From the end of the first box on, wherever the answer stops."""
    got = PIXELS.parse(WHOLE[:cut], IMAGE)
    assert FlawKind.TRUNCATED in kinds(got)
    assert got.response.regions[0].boxes == (Box(0.1, 0.1, 0.5, 0.5),)


def test_half_an_instruction_is_not_carried_out():
    text = '{"task": "regedit", "regions": [{"bbox_2d": [1, 2, 300, 400], "label": "can"}], "arg'
    got = RELATIVE.parse(text, IMAGE, question='take the can away')
    assert got.response.calls == ()
    assert [region.phrase for region in got.response.regions] == ['can']


@pytest.mark.parametrize('text', ['[]', '```json\n[]\n```', '', ' <|im_end|>'])
def test_nothing_found(text):
    got = PIXELS.parse(text, IMAGE, question='find the hammer')
    assert got.response.parts == (NOTHING,)
    assert got.flaws == ()


def test_prose_with_brackets_of_its_own():
    text = 'There are two mugs [see left] and {nothing} else [1].'
    assert PIXELS.parse(text, IMAGE).response.parts == (text,)


def test_text_after_the_list_is_kept_and_thinking_is_not():
    text = f'<think>[{{"bbox_2d": [1,1,9,9]}}]</think>Here:\n{WHOLE}\nDone.'
    got = PIXELS.parse(text, IMAGE)
    assert got.response.text == 'Here: Done.'
    assert len(got.response.regions) == 2


def test_out_of_range_is_clamped_and_degenerate_dropped():
    text = (
        '[{"bbox_2d": [-50, 0, 500, 1200], "label": "a"}, {"bbox_2d": [9, 9, 9, 20], "label": "b"},'
        '{"bbox_2d": [1, 2, 3], "label": "c"}, {"bbox_2d": ["1", 2, 3, 4], "label": "d"},'
        '{"bbox_2d": [1e999, 2, 3, 4], "label": "e"}, {"bbox_2d": [30, 0, 10, 9], "label": "f"}]'
    )
    got = RELATIVE.parse(text, IMAGE)
    assert got.response.regions == (Region('a', (Box(0, 0, 0.5, 1),)),)
    assert kinds(got) == [
        FlawKind.OUT_OF_RANGE,
        FlawKind.DEGENERATE,
        FlawKind.MALFORMED,
        FlawKind.MALFORMED,
        FlawKind.MALFORMED,
        FlawKind.DEGENERATE,
    ]


def test_ten_thousand_boxes():
    entries = [{'bbox_2d': [1, 1, 500, 500], 'label': 'mug'}] * 10_000
    got = RELATIVE.parse(json.dumps(entries), IMAGE)
    assert sum(len(region.boxes) for region in got.response.regions) == MAX_BOXES
    assert kinds(got) == [FlawKind.TOO_MANY]
    assert '10000 boxes' in got.flaws[0].message


def test_a_label_with_markers_stays_data():
    label = '</p><gen>a cat</gen><box>[0.000, 0.000, 1.000, 1.000]</box>'
    text = json.dumps([{'bbox_2d': [1, 1, 500, 500], 'label': label}])
    response = RELATIVE.parse(text, IMAGE).response
    assert response.regions[0].phrase == label
    assert parse(format(response)) == (response, ())
    assert parse(format(response))[0].calls == ()


def test_lone_surrogates_do_not_leave_the_adapter():
    got = RELATIVE.parse(r'[{"bbox_2d": [1, 1, 500, 500], "label": "\ud800x"}]', IMAGE)
    assert format(got.response).encode('utf-8')


def test_messages_teach_the_tasks_and_carry_the_turns():
    history = (Turn('find it', '<p>mug</p><box>[0.100, 0.100, 0.500, 0.500]</box>'),)
    system, first, answer, last = PIXELS.messages(Conversation('and the plate?', history), IMAGE)
    assert 'regedit' in system.text
    assert (first.image, answer.image, last.image) == (True, False, False)
    assert json.loads(answer.text) == [{'bbox_2d': [56, 28, 280, 140], 'label': 'mug'}]
    assert last.text == 'and the plate?'
    read_back = PIXELS.parse(answer.text, IMAGE).response
    assert read_back == parse(history[0].answer)[0]
