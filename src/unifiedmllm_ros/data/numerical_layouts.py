"""Training rows like NSR-1K's numerical prompts: sentences with numbers, and layouts for them.

One class, two classes, a comparison ("three dogs and fewer cats"), or what a caption may say
(`numerical_captions`), up to nine boxes. The rows have the fields of the set, so that
`unifiedmllm data convert nsr1k` reads them. Boxes do not overlap; their shapes come from real
boxes of the class where spatial training rows are given.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from operator import eq, gt, lt
from pathlib import Path
from random import Random
from typing import Any

from unifiedmllm_ros.data.coco_names import COCO_NAMES, plural
from unifiedmllm_ros.data.numerical_captions import NUMBERS, caption, told_apart
from unifiedmllm_ros.evaluation.nsr1k import XYWH

MOST = 8
_ONE_KIND = (
    '{a}',
    'a photo of {a}',
    'an image of {a}',
    'there {are} {a} in the image',
    'a picture with {a}',
)
# The number of the first class is stated, that of the second only compared.
_COMPARED = {
    'fewer': (
        '{a} and fewer {second}',
        'there {are} {a} in the image, and fewer {second} than {first}',
        'a photo of {a} with fewer {second}',
        'fewer {second} than {first}, with {a}',
    ),
    'more': (
        '{a} and more {second}',
        'there {are} {a} in the image, and more {second} than {first}',
        'a photo of {a} with more {second}',
        'more {second} than {first}, with {a}',
    ),
    'equal': (
        '{a} and as many {second}',
        'there {are} {a} in the image, and the same number of {second}',
        'a photo of {a} with an equal number of {second}',
    ),
}
_PAIRS = {
    relation: [(a, b) for a in range(1, MOST) for b in range(1, MOST + 1 - a) if holds(b, a)]
    for relation, holds in (('fewer', lt), ('more', gt), ('equal', eq))
}

Shapes = Mapping[str, Sequence[tuple[float, float]]]
Row = dict[str, Any]


def numerical_rows(count: int, seed: int = 0, shapes: Shapes | None = None) -> Iterator[Row]:
    """Yield `count` rows; the same arguments give the same rows.

    shapes: (width, height) examples of each class, see `read_shapes`; without, any proportions.
    """
    for id in range(1, count + 1):
        rng = Random(f'{seed}-{id}')  # a seed of its own: more rows change no earlier one
        kind = rng.choice(tuple(_PROMPTS))
        prompt, counts = _PROMPTS[kind](rng)
        yield {
            'id': id,
            'prompt': prompt,
            'num_object': [list(pair) for pair in counts],
            'object_list': [[name, list(box)] for name, box in _layout(counts, rng, shapes or {})],
            'type': 'generated',
            'sub-type': kind,
        }


def _single(rng: Random) -> tuple[str, list[tuple[str, int]]]:
    name, number = rng.choice(COCO_NAMES), rng.randint(1, MOST)
    return _worded(rng.choice(_ONE_KIND), _amount(number, name), number), [(name, number)]


def _two(rng: Random) -> tuple[str, list[tuple[str, int]]]:
    first, second = _two_names(rng)
    number = rng.randint(1, MOST - 1)
    other = rng.randint(1, MOST - number)
    both = f'{_amount(number, first)} and {_amount(other, second)}'
    return _worded(rng.choice(_ONE_KIND), both, number), [(first, number), (second, other)]


def _comparison(rng: Random) -> tuple[str, list[tuple[str, int]]]:
    first, second = _two_names(rng)
    relation = rng.choice(tuple(_COMPARED))
    number, other = rng.choice(_PAIRS[relation])
    amount = _amount(number, first)
    wording = rng.choice(_COMPARED[relation])
    prompt = _worded(wording, amount, number, first=plural(first), second=plural(second))
    return prompt, [(first, number), (second, other)]


_PROMPTS = {'single': _single, 'two': _two, 'comparison': _comparison, 'natural': caption}


def _two_names(rng: Random) -> tuple[str, str]:
    """Two classes that the scoring of the set can tell apart ("dog" and "hot dog" it cannot)."""
    while True:
        pair = tuple(rng.sample(COCO_NAMES, 2))
        if told_apart(*pair):
            return pair[0], pair[1]


def _amount(number: int, name: str) -> str:
    return f'{NUMBERS[number]} {name if number == 1 else plural(name)}'


def _worded(wording: str, amount: str, number: int, **names: str) -> str:
    return wording.format(a=amount, are='is' if number == 1 else 'are', **names)


def _layout(
    counts: Sequence[tuple[str, int]], rng: Random, shapes: Shapes
) -> Iterator[tuple[str, XYWH]]:
    """A box in a cell of its own for each object, to three decimals."""
    names = [name for name, number in counts for _ in range(number)]
    columns, rows = _grid(len(names), rng)
    cells = rng.sample(range(columns * rows), len(names))
    for name, cell in zip(names, cells, strict=True):
        examples = shapes.get(name) or [(rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.5))]
        width, height = rng.choice(examples)
        scale = min(1 / columns / width, 1 / rows / height, 1.5) * rng.uniform(0.7, 0.97)
        width, height = width * scale, height * scale
        left = (cell % columns) / columns + rng.uniform(0, 1 / columns - width)
        top = (cell // columns) / rows + rng.uniform(0, 1 / rows - height)
        yield name, (round(left, 3), round(top, 3), round(width, 3), round(height, 3))


def _grid(count: int, rng: Random) -> tuple[int, int]:
    """(columns, rows) with room for all, wider than high or not."""
    fitting = [
        (columns, rows)
        for columns in range(1, 5)
        for rows in range(1, 5)
        if count <= columns * rows <= count + 3 and abs(columns - rows) <= 2
    ]
    return rng.choice(fitting)


def read_shapes(path: Path) -> Shapes:
    """Real (width, height) pairs of each class from a spatial.train.json, slivers left out.

    Raises Nsr1kError for a file that is none.
    """
    from unifiedmllm_ros.evaluation.nsr1k_benchmark import read_spatial

    shapes: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in read_spatial(path):
        for name, (_, _, width, height) in row.truth:
            if min(width, height) >= 0.05:
                shapes[name].append((width, height))
    return shapes


def write_rows(path: Path, rows: Iterator[Row]) -> int:
    """Write rows as the set's JSON list; returns how many."""
    listed = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(listed) + '\n', encoding='utf-8')
    return len(listed)
