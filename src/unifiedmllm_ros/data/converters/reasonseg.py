"""ReasonSeg: segmentation by reasoning (Lai et al., LISA, CVPR 2024).

Every image has a JSON file of its name: `text` (one to six instructions), `is_sentence`, `shapes`
(polygons labelled target, ignore or, obsolete, flag). `explanatory/train.json` holds explanations.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from unifiedmllm_ros.data.conversation import Conversation
from unifiedmllm_ros.data.converters.folder import SetFolder
from unifiedmllm_ros.data.converters.public_set import PublicSet
from unifiedmllm_ros.data.converters.rows import Rejected, Row, sound
from unifiedmllm_ros.data.converters.wording import SEGMENT, conversation, pick, points_box
from unifiedmllm_ros.representation import Box, Part, Region, TaskCall


def _rows(folder: SetFolder) -> Iterator[Row]:
    """The place of each annotation file, with the explanation of its image if there is one."""
    explanations = _explanations(folder)
    for path in sorted(folder.find(folder.split).glob('*.json')):
        yield Row(folder.place(path), {'explanation': explanations.get(path.stem)})


def _explanations(folder: SetFolder) -> dict[str, str]:
    if not folder.has('explanatory/train.json'):
        return {}
    said: dict[str, str] = {}
    for row in folder.json_rows(folder.find('explanatory/train.json')):
        try:
            said[PurePosixPath(row.text('image')).stem] = row.text('outputs')
        except Rejected as error:
            folder.report.drop(f'explanation: {error.reason}', row.where)
    return said


def _build(folder: SetFolder, row: Row) -> Iterator[Conversation]:
    """One conversation for each instruction; a box for each target polygon."""
    stem = PurePosixPath(row.where).stem
    annotation = folder.row_json(folder.root / row.where, ('utf-8', 'cp1252'))
    row = Row(row.where, {**Row.of(row.where, annotation).fields, **row.fields})
    path, image = folder.medium(f'{folder.split}/{stem}.jpg')
    size = folder.size(path)
    shapes = [Row.of(row.where, shape) for shape in row.array('shapes')]
    polygons = {name: _labelled(shapes, name) for name in ('target', 'ignore')}
    boxes = tuple(points_box(points, *size) for points in polygons['target'])
    if not boxes:
        raise Rejected('no target polygon')
    for number, text in enumerate(row.array('text')):
        if not isinstance(text, str) or not text.strip():
            folder.report.drop('instruction is empty or no text', row.where)
            continue
        id = f'reasonseg-{folder.split}-{stem}-{number}'
        pair = _exchange(id, sound(text.strip()), row, boxes)
        yield conversation(id, 'reasonseg', [pair], {'image': image}, {'polygons': polygons})


def _labelled(shapes: list[Row], label: str) -> list[Any]:
    """Polygons of a label; as published, "ignore" is anywhere in a label, "flag" means nothing."""
    chosen = []
    for shape in shapes:
        said = shape.text('label').lower()
        means = 'ignore' if 'ignore' in said else 'flag' if said == 'flag' else 'target'
        if means == label:
            chosen.append(shape.array('points'))
    return chosen


def _exchange(id: str, text: str, row: Row, boxes: tuple[Box, ...]) -> tuple[str, list[Part]]:
    """A short text is the phrase itself; what a sentence asks for has no name of its own."""
    sentence = bool(row.fields.get('is_sentence'))
    call = TaskCall('seg', regions=(Region('target' if sentence else text, boxes),))
    question = text if sentence else pick(SEGMENT, id).format(text)
    explanation = row.fields.get('explanation')
    return question, [call] if explanation is None else [explanation, ' ', call]


REASONSEG = PublicSet(
    'reasonseg',
    'ReasonSeg',
    'segmentation by reasoning',
    'none stated for the data (code: Apache-2.0)',
    'github.com/dvlab-research/LISA',
    '{split}/NAME.jpg with NAME.json; optional explanatory/train.json',
    _rows,
    _build,
    ('train', 'val', 'test'),
)
