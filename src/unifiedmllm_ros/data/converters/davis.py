"""DAVIS 2017: masks of objects through a video, with names for the objects.

Pont-Tuset et al., 2017; expressions by Khoreva et al., 2018 (davis_text_annotations, lines
`sequence object "expression"`). Masks are PNG images in the VOC palette, 0 is the background.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.data.conversation import Conversation
from unifiedmllm_ros.data.converters.folder import SetFolder
from unifiedmllm_ros.data.converters.public_set import PublicSet
from unifiedmllm_ros.data.converters.rows import Rejected, Row
from unifiedmllm_ros.data.converters.wording import conversation, pick, pixel_box
from unifiedmllm_ros.representation import Box, Region, TaskCall

_LINE = re.compile(r'(\S+)\s+(\d+)\s+"?(.*?)"?\s*')
_TEXTS = ('Davis17_annot1.txt', 'Davis17_annot2.txt')
_ASK = ('follow {} through the video', 'segment {} in this video', 'Track {}.')


def _rows(folder: SetFolder) -> Iterator[Row]:
    path = folder.find(f'ImageSets/2017/{folder.split}.txt')
    said = _expressions(folder)
    for number, name in enumerate(folder.read_text(path).split()):
        yield Row(folder.place(path, number), {'sequence': name, 'said': said.get(name, {})})


def _expressions(folder: SetFolder) -> dict[str, dict[int, list[str]]]:
    """sequence -> object number -> its expressions; lines of another form are counted."""
    said: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    first = folder.find(f'davis_text_annotations/{_TEXTS[0]}', _TEXTS[0])
    for path in (first.with_name(name) for name in _TEXTS if first.with_name(name).exists()):
        for number, line in enumerate(folder.read_text(path, ('utf-8', 'latin-1')).splitlines()):
            match = _LINE.fullmatch(line)
            if match and match[3]:
                said[match[1]][int(match[2])].append(match[3])
            elif line.strip():
                folder.report.drop('expression in another form', folder.place(path, number))
    return said


def _build(folder: SetFolder, row: Row) -> Iterator[Conversation]:
    """One conversation for each expression of each object in the first frame."""
    name = row.text('sequence')
    frames, video = folder.medium(f'JPEGImages/480p/{name}')
    masks_folder, masks = folder.medium(f'Annotations/480p/{name}')
    first = min(masks_folder.glob('*.png'), default=None)
    if first is None or not (frames / f'{first.stem}.jpg').exists():
        raise Rejected('first frame or its mask is missing')
    labels = read_labels(first)
    for index in (int(i) for i in np.unique(labels) if i):
        phrases = row.fields['said'].get(index, [])
        if not phrases:
            folder.report.drop('object without an expression', f'{row.where}, object {index}')
        for number, phrase in enumerate(phrases):
            id = f'davis-{name}-{index}-{number}'
            call = TaskCall('vidseg', regions=(Region(phrase, (_box(labels == index),)),))
            pair = (pick(_ASK, id).format(phrase), [call])
            yield conversation(
                id, 'davis', [pair], {'video': video}, {'masks': masks, 'object': index}
            )


def _box(mask: NDArray[np.bool_]) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    corners = (columns[0].item(), rows[0].item(), columns[-1].item() + 1, rows[-1].item() + 1)
    return pixel_box(corners, mask.shape[1], mask.shape[0])


def read_labels(path: Path) -> NDArray[np.uint8]:
    """The object numbers of a mask, (height, width) uint8: a grey PNG, or one in VOC's palette.

    Raises Rejected where it cannot be read.
    """
    read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if read is None or read.dtype != np.uint8:
        raise Rejected('mask cannot be read')
    image = np.asarray(read, dtype=np.uint8)
    if image.ndim == 2:
        return image
    # The palette spreads the bits of a number over the high bits of red, green and blue.
    labels = np.zeros(image.shape[:2], dtype=np.uint8)
    for bit in range(8):
        channel = image[..., 2 - bit % 3]  # OpenCV gives blue, green, red
        labels |= ((channel >> (7 - bit // 3)) & 1) << bit
    return labels


DAVIS = PublicSet(
    'davis',
    'DAVIS 2017 with referring expressions',
    'video segmentation',
    'see the page of the set; none stated for the expressions',
    'davischallenge.org',
    'ImageSets/2017/{split}.txt, JPEGImages/480p/, Annotations/480p/, '
    'davis_text_annotations/Davis17_annot1.txt (and annot2)',
    _rows,
    _build,
    ('train', 'val'),
)
