"""More spatial rows from those of NSR-1K: other things in the same sentences, and places of ours.

The set's own boxes are those of photographs: the likeliest edge of many is the picture's, and of
two things next to each other either one stands to the left. Whoever writes the likeliest numbers
after these writes two boxes as large as the picture. Here each thing fills most of its half of the
picture, in the shape of a real box of its class, and of things next to each other the one that is
named first stands to the left.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from unifiedmllm_ros.data.coco_names import COCO_NAMES
from unifiedmllm_ros.data.numerical_captions import told_apart
from unifiedmllm_ros.data.numerical_layouts import Shapes, read_shapes
from unifiedmllm_ros.evaluation.nsr1k import XYWH

Row = dict[str, Any]
_MIRRORED = {'left': 'right', 'right': 'left'}
_EXCHANGED = 0.8  # how often each of a row's things becomes another
_HALVES = (0.26, 0.74)
_ROOM = (0.44, 0.84)  # along the direction in which the two stand, and across
_ASTRAY = (0.02, 0.05)  # of centres, likewise
_SECOND_FIRST = ('right', 'bottom')


def spatial_rows(path: Path, count: int, seed: int = 0) -> Iterator[Row]:
    """Yield `count` rows made from those of a spatial.train.json, with ids that go on from there.

    The same arguments give the same rows. Raises Nsr1kError for a file that is none.
    """
    shapes = read_shapes(path)
    rows: Sequence[Row] = json.loads(path.read_text(encoding='utf-8'))
    first = 1 + max(int(row['id']) for row in rows)
    for number in range(count):
        rng = Random(f'{seed}-{number}')  # a seed of its own: more rows change no earlier one
        row = _mirrored(_exchanged(rng.choice(rows), rng), rng)
        yield {'id': first + number, **_placed(row, shapes, rng)}


def _exchanged(row: Row, rng: Random) -> Row:
    """The same sentence with other things, where it names them as such."""
    for mine, others in (('obj1', 'obj2'), ('obj2', 'obj1')):
        (old, box), other = row[mine], row[others][0]
        new = rng.choice(COCO_NAMES)
        if rng.random() > _EXCHANGED or not told_apart(new, other):
            continue
        prompt, found = re.subn(rf'\b{re.escape(old)}\b', new, row['prompt'], flags=re.IGNORECASE)
        if found:
            row = {**row, 'prompt': prompt, mine: [new, box]}
    return row


def _mirrored(row: Row, rng: Random) -> Row:
    """Half of the rows about left and right say the other."""
    other = _MIRRORED.get(row['relation'])
    if other is None or rng.random() < 0.5:
        return row
    prompt, found = re.subn(rf'\b{row["relation"]}\b', other, row['prompt'])
    return {**row, 'prompt': prompt, 'relation': other} if found == 1 else row


def _placed(row: Row, shapes: Shapes, rng: Random) -> Row:
    """The row with boxes that stand as it says, and with nothing else of it."""
    relation, prompt = row['relation'], row['prompt']
    names = [row['obj1'][0], row['obj2'][0]]
    if relation == 'next to':
        names.sort(key=prompt.lower().find)
    upright = relation in ('top', 'bottom')
    halves = reversed(_HALVES) if relation in _SECOND_FIRST else _HALVES
    boxes = [
        _box(half, upright, shapes.get(name), rng) for name, half in zip(names, halves, strict=True)
    ]
    (first, second), (a, b) = names, boxes
    things = {'obj1': [first, list(a)], 'obj2': [second, list(b)]}
    return {'prompt': prompt, **things, 'relation': relation, 'type': row.get('type', '')}


def _box(
    half: float, upright: bool, shapes: Sequence[tuple[float, float]] | None, rng: Random
) -> XYWH:
    """A box about the middle of a half of the picture, to three decimals."""
    room, astray = (_ROOM[::-1], _ASTRAY[::-1]) if upright else (_ROOM, _ASTRAY)
    width, height = rng.choice(shapes) if shapes else room
    scale = min(room[0] / width, room[1] / height) * rng.uniform(0.8, 1.0)
    width, height = width * scale, height * scale
    middle = (0.5, half) if upright else (half, 0.5)
    x, y = (m + rng.uniform(-far, far) for m, far in zip(middle, astray, strict=True))
    left, top = x - width / 2, y - height / 2
    return round(left, 3), round(top, 3), round(width, 3), round(height, 3)
