"""Prompts with numbers that read like captions of photographs, for rows like NSR-1K's."""

from __future__ import annotations

from random import Random

from unifiedmllm_ros.data.coco_names import COCO_NAMES, plural
from unifiedmllm_ros.evaluation.nsr1k import mentioned_class

Counts = list[tuple[str, int]]


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.replace('\n', '|').split('|') if part.strip())


NUMBERS = ('no', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight')
_TWO = ('a couple of {}', 'a pair of {}', 'two {}', 'two {}', 'two {}')
_KINDS = (
    *_list(
        """small | large | big | little | old | new | white | black | red | blue | green | yellow
        brown | colorful | young | tall | wooden | shiny | empty"""
    ),
    *('',) * 24,
)
_PEOPLE = tuple(
    tuple(words.split('/'))
    for words in _list(
        """man/men | woman/women | boy/boys | girl/girls | child/children | kid/kids | person/people
        person/people | skier/skiers | surfer/surfers | player/players | lady/ladies | guy/guys"""
    )
)
_DOING = (
    *_list(
        """standing | sitting | lying | resting | laying | shown | placed | seen | posing
        gathered | standing around | sitting together | lined up | waiting | being displayed"""
    ),
    *('',) * 8,
)
_WHERE = _list(
    """in a field | on a beach | on the street | in a room | in the grass | on a table
    in a kitchen | by the water | in front of a building | near a tree | on a sidewalk | on a hill
    in the snow
    in a parking lot | at a station | on the ground | next to each other | on top of a counter
    near a fence | in a living room | outside | in the city | under a tree | on a sunny day
    beside a road | at night | on display | against a wall | behind a fence | in a park"""
)
_OPENINGS = ('', '', '', '', 'there are ', 'a photo of ', 'a picture of ', 'a view of ', 'this is ')
_JOINTS = ('next to', 'and', 'with', 'near', 'beside', 'by', 'behind', 'in front of', 'along with')
_MOST, _MOST_BESIDE = 6, 3
_COMMON = (1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 4, 5, 6)


def caption(rng: Random) -> tuple[str, Counts]:
    """A caption, and the number of each class that it states."""
    first, number = rng.choice(COCO_NAMES), rng.choice(_COMMON)
    said = _some(first, number, rng)
    doing, where = rng.choice(_DOING), rng.choice(_WHERE)
    if rng.random() < 0.55:
        return _sentence((said, doing, where), rng), [(first, number)]
    second = _another(first, rng)
    other = rng.choice((1, 1, 1, 2, _MOST_BESIDE))
    words = (said, doing, rng.choice(_JOINTS), _some(second, other, rng))
    tail = (where,) if rng.random() < 0.4 else ()
    return _sentence((*words, *tail), rng), [(first, number), (second, other)]


def told_apart(first: str, second: str) -> bool:
    """Whether the scoring of the set tells two classes apart ("dog" and "hot dog" it does not)."""
    pair = first, second
    return first != second and all(mentioned_class(name, pair) == name for name in pair)


def _another(first: str, rng: Random) -> str:
    """A class that the scoring can tell from the first."""
    while True:
        pair = first, rng.choice(COCO_NAMES)
        if told_apart(*pair):
            return pair[1]


def _some(name: str, number: int, rng: Random) -> str:
    """Things of a class with their number: "three small dogs", "a couple of men", "an apple"."""
    one, many = rng.choice(_PEOPLE) if name == 'person' else (name, plural(name))
    kind = rng.choice(_KINDS)
    things = f'{kind} {one if number == 1 else many}'.strip()
    if number == 1:
        return f'{"an" if things[0] in "aeiou" else "a"} {things}'
    if number == 2:
        return rng.choice(_TWO).format(things)
    return f'{number if rng.random() < 0.1 else NUMBERS[number]} {things}'


def _sentence(words: tuple[str, ...], rng: Random) -> str:
    text = rng.choice(_OPENINGS) + ' '.join(word for word in words if word)
    text = text[0].upper() + text[1:] if rng.random() < 0.7 else text
    return f'{text}.' if rng.random() < 0.5 else text
