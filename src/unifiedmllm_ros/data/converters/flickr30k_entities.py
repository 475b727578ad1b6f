"""Flickr30k Entities: captions whose phrases are grounded (Plummer et al., ICCV 2015).

Sentences/ID.txt holds a caption a line, phrases as `[/EN#chain/type words]`. Annotations/ID.xml
holds the size of the image and objects with the chains they belong to and a bndbox (corners from 1,
both inside), or a scene or nobndbox flag.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from xml.etree import ElementTree

from unifiedmllm_ros.data.conversation import Conversation
from unifiedmllm_ros.data.converters.folder import SetFolder
from unifiedmllm_ros.data.converters.public_set import PublicSet
from unifiedmllm_ros.data.converters.rows import Rejected, Row, sound
from unifiedmllm_ros.data.converters.wording import conversation, pick, pixel_box
from unifiedmllm_ros.representation import Box, Part, Region

_PHRASE = re.compile(r'\[/EN#(\d+)/\S+ ([^\]]*)\]')
_ASK = (
    'Describe the image and ground what you name.',
    'Caption this image with boxes.',
    'What is in the image, and where?',
)


def _rows(folder: SetFolder) -> Iterator[Row]:
    path = folder.find(f'{folder.split}.txt')
    for number, line in enumerate(folder.read_text(path).split()):
        yield Row(folder.place(path, number), {'id': line})


def _build(folder: SetFolder, row: Row) -> Iterator[Conversation]:
    id = row.text('id')
    sentences = folder.row_text(folder.medium(f'Sentences/{id}.txt')[0])
    chains = _chains(folder, row, id)
    image = folder.medium(f'flickr30k-images/{id}.jpg', f'images/{id}.jpg')[1]
    for number, line in enumerate(filter(str.strip, sentences.splitlines())):
        parts = _parts(sound(line.strip()), chains)
        if not any(isinstance(part, Region) for part in parts):
            folder.report.drop('caption without a grounded phrase', f'{row.where}, line {number}')
            continue
        name = f'flickr30k-entities-{id}-{number}'
        yield conversation(
            name, 'flickr30k-entities', [(pick(_ASK, name), parts)], {'image': image}
        )


def _chains(folder: SetFolder, row: Row, id: str) -> dict[str, list[Box]]:
    """The boxes of each chain; a box that is no box is left out and counted."""
    text = folder.row_text(folder.medium(f'Annotations/{id}.xml')[0])
    if '<!' in text:
        raise Rejected('annotation declares entities')  # none of the published files does
    try:
        tree = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise Rejected('annotation is no XML') from error
    size = (_number(tree, 'size/width'), _number(tree, 'size/height'))
    chains: dict[str, list[Box]] = defaultdict(list)
    for thing in tree.iter('object'):
        if (corners := thing.find('bndbox')) is None:
            continue
        try:
            x1, y1, x2, y2 = (_number(corners, name) for name in ('xmin', 'ymin', 'xmax', 'ymax'))
            box = pixel_box((x1 - 1, y1 - 1, x2, y2), *size)
        except Rejected as error:
            folder.report.drop(f'part of a row: {error.reason}', row.where)
            continue
        for name in thing.iter('name'):
            chains[name.text or ''].append(box)
    return chains


def _number(element: ElementTree.Element, path: str) -> float:
    text = element.findtext(path)
    try:
        return float(text or '')
    except ValueError as error:
        raise Rejected(f'field {path} is missing or no number') from error


def _parts(line: str, chains: dict[str, list[Box]]) -> list[Part]:
    """Prose and regions; a phrase without boxes (scenes, what is not seen) stays prose."""
    parts: list[Part] = []
    end = 0
    for match in _PHRASE.finditer(line):
        boxes = tuple(chains.get(match[1], ()))
        parts.append(line[end : match.start()])
        parts.append(Region(match[2], boxes) if boxes else match[2])
        end = match.end()
    parts.append(line[end:])
    return parts


FLICKR30K_ENTITIES = PublicSet(
    'flickr30k-entities',
    'Flickr30k Entities',
    'grounded captions',
    'annotations: none stated; images under the terms of Flickr, non-commercial research',
    'github.com/BryanPlummer/flickr30k_entities',
    '{split}.txt, Sentences/, Annotations/, flickr30k-images/ (or images/)',
    _rows,
    _build,
    ('train', 'val', 'test'),
)
