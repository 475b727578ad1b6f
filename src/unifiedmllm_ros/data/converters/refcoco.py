"""refCOCO, refCOCO+ and refCOCOg: referring expressions for things in COCO images.

Yu et al., Modeling Context in Referring Expressions, ECCV 2016; Mao et al., CVPR 2016. The
expressions come as a pickle, refs(*).p: it is read by a reader that can build nothing but plain
containers (see safe_pickle), or from the same list exported as refs(*).json, which goes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from unifiedmllm_ros.data.conversation import Conversation
from unifiedmllm_ros.data.converters.folder import ConversionError, SetFolder
from unifiedmllm_ros.data.converters.public_set import PublicSet
from unifiedmllm_ros.data.converters.rows import Rejected, Row, identity
from unifiedmllm_ros.data.converters.safe_pickle import read_plain_pickle
from unifiedmllm_ros.data.converters.wording import (
    GROUND,
    SEGMENT,
    conversation,
    pick,
    pixel_box,
)
from unifiedmllm_ros.representation import Part, Region, TaskCall


def _rows(name: str, split_by: str, folder: SetFolder) -> Iterator[Row]:
    """Refs of the split, each joined with its annotation and image."""
    instances = folder.read_json(folder.find('instances.json', f'{name}/instances.json'))
    annotations, images = (_by_id(instances, key) for key in ('annotations', 'images'))
    stem = f'refs({split_by})'
    names = [f'{place}{stem}{end}' for end in ('.json', '.p') for place in ('', f'{name}/')]
    path = folder.find(*names)
    refs = folder.read_json(path) if path.suffix == '.json' else read_plain_pickle(path)
    if not isinstance(refs, list):
        raise ConversionError(f'{path}: holds no list of refs')
    for number, ref in enumerate(refs):
        row = Row.of(folder.place(path, number), ref)
        if row.fields.get('split') == folder.split:
            joined = {
                'annotation': annotations.get(identity(row.fields.get('ann_id'))),
                'image': images.get(identity(row.fields.get('image_id'))),
            }
            yield Row(row.where, {**row.fields, **joined})


def _by_id(instances: Any, key: str) -> dict[Any, Any]:
    rows = instances.get(key) if isinstance(instances, dict) else None
    if not isinstance(rows, list):
        raise ConversionError(f'instances.json: holds no list {key}')
    return {identity(row.get('id')): row for row in rows if isinstance(row, dict)}


def _build(name: str, folder: SetFolder, row: Row) -> Iterator[Conversation]:
    """One conversation for each expression: the answer to one would give away the next."""
    if not row.fields['annotation'] or not row.fields['image']:
        raise Rejected('ref names an unknown annotation or image')
    image = Row.of(row.where, row.fields['image'])
    annotation = Row.of(row.where, row.fields['annotation'])
    x, y, width, height = _numbers(annotation.array('bbox'))
    size = image.number('width'), image.number('height')
    box = pixel_box((x, y, x + width, y + height), *size)
    media = {'image': _image(folder, image.text('file_name'))}
    targets = {'annotation': row.fields['ann_id']}
    if segmentation := annotation.fields.get('segmentation'):
        targets['segmentation'] = segmentation
    for sentence in row.array('sentences'):
        said = Row.of(row.where, sentence)
        id, phrase = f'{name}-{row.key("ref_id")}-{said.key("sent_id")}', said.text('sent')
        question, part = _ask(id, Region(phrase, (box,)))
        yield conversation(id, name, [(question, [part])], media, targets)


def _ask(id: str, region: Region) -> tuple[str, Part]:
    """Two in three are segmentations, the others plain detections."""
    if pick('ssg', id) == 'g':
        return pick(GROUND, id).format(region.phrase), region
    return pick(SEGMENT, id).format(region.phrase), TaskCall('seg', regions=(region,))


def _numbers(values: list[Any]) -> list[float]:
    if len(values) != 4 or not all(isinstance(v, int | float) for v in values):
        raise Rejected('field bbox is not four numbers')
    return [float(v) for v in values]


def _image(folder: SetFolder, file: str) -> str:
    places = ('images/mscoco/images/train2014', 'images/mscoco', 'images/train2014', 'train2014')
    return folder.medium(*(f'{place}/{Path(file).name}' for place in places))[1]


def _bound(function: Callable[..., Any], *values: str) -> Callable[..., Any]:
    return partial(function, *values)


def _set(name: str, title: str, split_by: str, splits: tuple[str, ...]) -> PublicSet:
    return PublicSet(
        name,
        title,
        'segmentation and grounding of expressions',
        'none stated for the expressions; COCO CC BY 4.0, images under the terms of Flickr',
        'github.com/lichengunc/refer',
        f'[{name}/]instances.json, [{name}/]refs({split_by}).p or .json; '
        'images/mscoco/images/train2014/',
        _bound(_rows, name, split_by),
        _bound(_build, name),
        splits,
    )


REFCOCO = _set('refcoco', 'refCOCO (UNC split)', 'unc', ('train', 'val', 'testA', 'testB'))
REFCOCO_PLUS = _set('refcoco+', 'refCOCO+ (UNC split)', 'unc', ('train', 'val', 'testA', 'testB'))
REFCOCOG = _set('refcocog', 'refCOCOg (UMD split)', 'umd', ('train', 'val', 'test'))
