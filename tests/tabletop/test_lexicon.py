"""Terms: short names, plurals, articles, and what a term may denote."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from unifiedmllm_ros.tabletop.catalogue import CATALOGUE
from unifiedmllm_ros.tabletop.lexicon import (
    Lexicon,
    article,
    default_lexicon,
    none_of,
    plural,
)


@pytest.mark.parametrize(
    ('term', 'expected'),
    [
        ('bowl', 'bowls'),
        ('box', 'boxes'),
        ('dish', 'dishes'),
        ('shelf', 'shelves'),
        ('desk caddy', 'desk caddies'),
        ('toy', 'toys'),
        ('tin of soup', 'tins of soup'),
        ('thing to put food on', 'things to put food on'),
        ('place mat with cutlery', 'place mats with cutlery'),
        ('milk', 'milk'),
        ('cookies', 'cookies'),
        ('glass', 'glasses'),
    ],
)
def test_plural(term: str, expected: str) -> None:
    assert plural(term) == expected


def test_articles_and_none() -> None:
    assert article('orange bowl') == 'an orange bowl'
    assert article('mug') == 'a mug'
    assert article('milk') == 'some milk'
    assert none_of('mug') == 'there is no mug'
    assert none_of('cookies') == 'there are no cookies'
    assert none_of('thing to dry dishes on') == 'there is no thing to dry dishes on'


@dataclass(frozen=True)
class Thing:
    name: str
    kind: str
    colour: str = ''
    synonyms: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    held_out: bool = False


THINGS = {
    'mug': Thing('red coffee mug', 'mug', 'red', ('cup',), ('drink', 'drink from')),
    'tall': Thing('beige mug', 'mug', 'beige', ('cup',), ('drink from',)),
    'china': Thing('white mug', 'mug', 'white', ('cup',), ('drink from',)),
    'cookies': Thing('red cookie box', 'box', 'red', ('cookies',), ('eat',)),
    'storage': Thing('white storage box', 'storage box', 'white', ('bin',)),
    'bowl': Thing('white bowl', 'bowl', 'white', ('small bowl',)),
    'big': Thing('blue bowl', 'bowl', 'blue'),
    'pan': Thing('frying pan', 'pan', 'black', held_out=True),
}


def test_short_names_are_colour_and_kind_or_the_product() -> None:
    entries = Lexicon(THINGS).entries
    assert entries['mug'].short == 'red mug'
    assert entries['cookies'].short == 'red cookie box'
    assert entries['pan'].short == 'frying pan'


def test_colour_goes_with_plain_nouns_but_not_with_what_is_in_a_box() -> None:
    entries = Lexicon(THINGS).entries
    assert {'red mug', 'red cup'} <= set(entries['mug'].terms)
    assert 'red box' in entries['cookies'].terms
    assert 'red cookies' not in entries['cookies'].terms


def test_a_term_that_ends_a_name_may_mean_it() -> None:
    lexicon = Lexicon(THINGS)
    assert lexicon.strict['box'] == {'cookies'}
    assert lexicon.loose['box'] == {'cookies', 'storage'}
    assert lexicon.loose['small bowl'] == {'bowl', 'big'}
    assert all(lexicon.strict[t] <= lexicon.loose[t] for t in lexicon.strict)


def test_like_colours_are_in_doubt() -> None:
    lexicon = Lexicon(THINGS)
    assert lexicon.with_colour('white') == {'china', 'storage', 'bowl'}
    assert 'tall' in lexicon.with_some_colour('white')
    assert lexicon.loose['white mug'] == {'china', 'tall'}


def test_a_cup_is_to_drink_from_only() -> None:
    lexicon = Lexicon(THINGS)
    assert lexicon.serving('drink') == frozenset()
    assert lexicon.serving('drink from') == {'mug', 'tall', 'china'}


def test_held_out_things_lend_no_words_to_ask_for() -> None:
    lexicon = Lexicon(THINGS)
    assert 'frying pan' in lexicon.strict
    assert 'frying pan' not in lexicon.askable
    assert 'black' not in lexicon.colours


def test_every_name_of_the_catalogue_is_a_term() -> None:
    lexicon = default_lexicon()
    for asset, model in CATALOGUE.items():
        for name in (model.name, model.kind, *model.synonyms):
            assert asset in lexicon.strict[name]
