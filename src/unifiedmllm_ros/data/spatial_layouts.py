"""More spatial rows from those of NSR-1K: other things in the same sentences and places.

The boxes of a row stand as its relation says whatever they are boxes of, and in a mirror left is
right. So a few hundred rows teach the relations of any two things.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from unifiedmllm_ros.data.coco_names import COCO_NAMES
from unifiedmllm_ros.evaluation.nsr1k import mentioned_class, score_spatial
from unifiedmllm_ros.evaluation.nsr1k_benchmark import read_spatial

Row = dict[str, Any]
_MIRRORED = {'left': 'right', 'right': 'left'}
_EXCHANGED = 0.8  # how often each of a row's things becomes another
_ATTEMPTS = 20


def spatial_rows(path: Path, count: int, seed: int = 0) -> Iterator[Row]:
    """Yield `count` rows made from those of a spatial.train.json, with ids that go on from there.

    The same arguments give the same rows. Raises Nsr1kError for a file that is none.
    """
    read_spatial(path)
    rows: Sequence[Row] = json.loads(path.read_text(encoding='utf-8'))
    first = 1 + max(int(row['id']) for row in rows)
    for number in range(count):
        rng = Random(f'{seed}-{number}')  # a seed of its own: more rows change no earlier one
        yield {**_varied(rows, rng), 'id': first + number}


def _varied(rows: Sequence[Row], rng: Random) -> Row:
    """A row that is right by the scoring of the set."""
    for _ in range(_ATTEMPTS):
        row = _exchanged(rng.choice(rows), rng)
        if rng.random() < 0.5:
            row = _mirror(row)
        (a, _), (b, _) = row['obj1'], row['obj2']
        layout = [(a, tuple(row['obj1'][1])), (b, tuple(row['obj2'][1]))]
        if score_spatial(layout, a, b, row['relation']) is True:
            return row
    raise AssertionError('rows whose boxes stand otherwise than they say')


def _exchanged(row: Row, rng: Random) -> Row:
    """The same sentence and boxes, with other things where the sentence names them as such."""
    for mine, others in (('obj1', 'obj2'), ('obj2', 'obj1')):
        (old, box), other = row[mine], row[others][0]
        new = rng.choice(COCO_NAMES)
        apart = all(mentioned_class(name, (new, other)) == name for name in (new, other))
        if rng.random() > _EXCHANGED or new == other or not apart:
            continue
        prompt, found = re.subn(rf'\b{re.escape(old)}\b', new, row['prompt'], flags=re.IGNORECASE)
        if found:
            row = {**row, 'prompt': prompt, mine: [new, box]}
    return row


def _mirror(row: Row) -> Row:
    """Left and right exchanged, in the boxes and in what the sentence says of them."""
    relation, prompt = row['relation'], row['prompt']
    if relation in _MIRRORED:
        prompt, found = re.subn(rf'\b{relation}\b', _MIRRORED[relation], prompt)
        if found != 1:
            return row
        relation = _MIRRORED[relation]
    elif re.search(r'\b(left|right)\b', prompt, re.IGNORECASE):
        return row
    boxes = {}
    for name in ('obj1', 'obj2'):
        thing, (x, y, width, height) = row[name]
        boxes[name] = [thing, [round(1 - x - width, 5), y, width, height]]
    return {**row, **boxes, 'relation': relation, 'prompt': prompt}
