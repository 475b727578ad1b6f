"""NSR-1K: layouts from sentences (Feng et al., LayoutGPT, NeurIPS 2023).

spatial.SPLIT.json holds {id, prompt, obj1, obj2, relation}, numerical.SPLIT.json (also known as
counting.SPLIT.json) {id, prompt, num_object, object_list}; boxes are [x, y, w, h] in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from unifiedmllm_ros.data.conversation import Conversation
from unifiedmllm_ros.data.converters.folder import ConversionError, SetFolder
from unifiedmllm_ros.data.converters.public_set import PublicSet
from unifiedmllm_ros.data.converters.rows import Rejected, Row, sound
from unifiedmllm_ros.data.converters.wording import LAYOUT, conversation, pick, pixel_box
from unifiedmllm_ros.representation import Box, Region, TaskCall

_FILES = {'spatial': ('spatial',), 'numerical': ('numerical', 'counting')}


def _rows(folder: SetFolder) -> Iterator[Row]:
    """Rows of both kinds; one kind may be missing, which is noted."""
    found = False
    for kind, names in _FILES.items():
        files = [f'{place}{n}.{folder.split}.json' for n in names for place in ('', f'{n}/')]
        if not any(folder.has(file) for file in files):
            folder.report.note(f'there are no {kind} prompts', files[0])
            continue
        found = True
        for row in folder.json_rows(folder.find(*files)):
            yield Row(row.where, {**row.fields, 'part': kind})
    if not found:
        raise ConversionError(
            f'{folder.root}: has neither spatial nor numerical .{folder.split}.json'
        )


def _build(folder: SetFolder, row: Row) -> Iterator[Conversation]:
    yield layout_conversation(row)


def layout_conversation(row: Row) -> Conversation:
    """The conversation of a row: its prompt, and a `layout` call with a region for each class.

    Raises Rejected for a row without a box that has an area (a known defect of the set).
    """
    part, prompt = row.text('part'), row.text('prompt')
    listed = (
        row.array('object_list') if part == 'numerical' else [row.array('obj1'), row.array('obj2')]
    )
    boxes: dict[str, list[Box]] = {}
    for item in listed:
        name, box = _named_box(item)
        boxes.setdefault(name, []).append(box)
    regions = tuple(Region(name, tuple(found)) for name, found in boxes.items())
    if not regions:
        raise Rejected('row has no object')
    id = f'nsr1k-{part}-{row.key("id")}'
    pair = (pick(LAYOUT, id).format(prompt), [TaskCall('layout', prompt, regions)])
    targets = {k: row.fields[k] for k in ('relation', 'num_object', 'type') if k in row.fields}
    return conversation(id, 'nsr1k', [pair], targets=targets)


def _named_box(item: Any) -> tuple[str, Box]:
    match item:
        case [str(name), [int() | float() as x, int() | float() as y, int() | float() as w, h]] if (
            name and isinstance(h, int | float)
        ):
            return sound(name), pixel_box((x, y, x + w, y + h), 1, 1)
    raise Rejected('object is not [class, [x, y, w, h]]')


NSR1K = PublicSet(
    'nsr1k',
    'NSR-1K',
    'layouts from sentences',
    'MIT; boxes and natural prompts from COCO, CC BY 4.0',
    'github.com/weixi-feng/LayoutGPT',
    'spatial.{split}.json and numerical.{split}.json, in spatial/ and numerical/ or not',
    _rows,
    _build,
    ('train', 'val'),
)
