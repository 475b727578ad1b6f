"""COCO captions, as prompts for images (Chen et al., 2015)."""

from __future__ import annotations

from collections.abc import Iterator

from unifiedmllm_ros.data.conversation import Conversation
from unifiedmllm_ros.data.converters.folder import SetFolder
from unifiedmllm_ros.data.converters.public_set import PublicSet
from unifiedmllm_ros.data.converters.rows import Rejected, Row, identity
from unifiedmllm_ros.data.converters.wording import MAKE_IMAGE, conversation, pick
from unifiedmllm_ros.representation import TaskCall


def _rows(folder: SetFolder) -> Iterator[Row]:
    name = f'captions_{folder.split}.json'
    path = folder.find(f'annotations/{name}', name)
    value = folder.read_json(path)
    images = folder.rows_of(path, value, 'images')
    files = {identity(row.fields.get('id')): row.fields.get('file_name') for row in images}
    for row in folder.rows_of(path, value, 'annotations'):
        file = files.get(identity(row.fields.get('image_id')))
        yield Row(row.where, {**row.fields, 'file_name': file})


def _build(folder: SetFolder, row: Row) -> Iterator[Conversation]:
    """A prompt is of use without its image, so a missing one is noted, not left out."""
    id, caption = f'coco-captions-{row.key("id")}', row.text('caption')
    targets = {}
    try:
        file = row.text('file_name')
        targets['image'] = folder.medium(f'{folder.split}/{file}', f'images/{folder.split}/{file}')[
            1
        ]
    except Rejected as error:
        folder.report.note(f'prompt without its image: {error.reason}', row.where)
    pair = (pick(MAKE_IMAGE, id).format(caption), [TaskCall('gen', caption)])
    yield conversation(id, 'coco-captions', [pair], targets=targets)


COCO_CAPTIONS = PublicSet(
    'coco-captions',
    'COCO captions',
    'images to be made',
    'CC BY 4.0; images under the terms of Flickr',
    'cocodataset.org',
    'annotations/captions_{split}.json; {split}/ with the images',
    _rows,
    _build,
    ('train2017', 'val2017', 'train2014', 'val2014'),
)
