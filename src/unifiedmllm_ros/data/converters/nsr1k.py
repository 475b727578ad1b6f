"""NSR-1K: layouts from sentences (Feng et al., LayoutGPT, NeurIPS 2023).

spatial.SPLIT.json holds {id, prompt, obj1, obj2, relation}, numerical.SPLIT.json (also known as
counting.SPLIT.json) {id, prompt, num_object, object_list}; boxes are [x, y, w, h] in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unifiedmllm_ros.data.conversation import Conversation
from unifiedmllm_ros.data.converters.folder import ConversionError, SetFolder
from unifiedmllm_ros.data.converters.public_set import PublicSet
from unifiedmllm_ros.data.converters.rows import Rejected, Row, sound
from unifiedmllm_ros.data.converters.wording import LAYOUT, conversation, pick, pixel_box
from unifiedmllm_ros.representation import Box, Region, TaskCall

_FILES = {'spatial': ('spatial',), 'numerical': ('numerical', 'counting')}


def _rows(folder: SetFolder) -> Iterator[Row]:
    """Rows of both kinds; one kind may be missing, which is noted.

    Training prompts that occur in a validation file of the folder are left out and counted.
    """
    found, held_out = False, set()
    if folder.split == 'train':
        held_out = {_words(row) for path in _files(folder, 'val') for row in folder.json_rows(path)}
    for path in _files(folder, folder.split):
        found = True
        kind = 'spatial' if path.name.startswith('spatial') else 'numerical'
        for row in folder.json_rows(path):
            unseen = _words(row) not in held_out or not _words(row)
            yield Row(row.where, {**row.fields, 'part': kind, 'unseen': unseen})
    if not found:
        raise ConversionError(
            f'{folder.root}: has neither spatial nor numerical .{folder.split}.json'
        )


def _files(folder: SetFolder, split: str) -> Iterator[Path]:
    """The files of a split that are there; a kind that is missing is noted if it is wanted."""
    for kind, names in _FILES.items():
        files = [f'{place}{name}.{split}.json' for name in names for place in ('', f'{name}/')]
        if any(folder.has(file) for file in files):
            yield folder.find(*files)
        elif split == folder.split:
            folder.report.note(f'there are no {kind} prompts', files[0])


def _words(row: Row) -> str:
    """What makes two prompts the same."""
    return ' '.join(str(row.fields.get('prompt') or '').casefold().strip(' .').split())


def _build(folder: SetFolder, row: Row) -> Iterator[Conversation]:
    if not row.fields['unseen']:
        raise Rejected('prompt occurs in the validation split')
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
