"""What things may be called: from the catalogue's names to terms, and from a term to things.

A term denotes objects strictly (it is one of their listed names) or loosely (it ends one of them,
so that a listener could take it to mean them). Questions ask only where the two agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

GENERIC = ('object', 'thing', 'item')

_PLURALS = {'knife': 'knives', 'loaf': 'loaves', 'shelf': 'shelves', 'scissors': 'scissors'}
_MASS = frozenset(
    {
        'milk',
        'juice',
        'butter',
        'popcorn',
        'sauce',
        'soup',
        'ketchup',
        'cheese',
        'macaroni',
        'wine',
        'pudding',
        'dressing',
        'cutlery',
        'bread',
        'tape',
        'soap',
    }
)
_PRODUCTS = frozenset({'can', 'bottle', 'carton', 'box'})
_ALIKE = (
    {'white', 'beige'},
    {'white', 'silver'},
    {'white', 'grey'},
    {'grey', 'silver'},
    {'yellow', 'orange'},
    {'yellow', 'beige'},
    {'pink', 'purple'},
    {'orange', 'brown'},
)


class Named(Protocol):
    """What the lexicon needs of a catalogue entry."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def colour(self) -> str: ...
    @property
    def synonyms(self) -> tuple[str, ...]: ...
    @property
    def uses(self) -> tuple[str, ...]: ...
    @property
    def held_out(self) -> bool: ...


@dataclass(frozen=True)
class Entry:
    """One asset: the short name that answers use, and the terms that questions may use.

    `names` are those of the catalogue, `coloured` its colour with a noun; `terms` is all of them.
    """

    asset: str
    short: str
    kind: str
    colour: str
    names: tuple[str, ...]
    coloured: tuple[str, ...]
    uses: frozenset[str]
    held_out: bool
    terms: tuple[str, ...]


class Lexicon:
    """Terms of a whole catalogue: `strict[term]` and `loose[term]` are sets of assets."""

    def __init__(self, catalogue: Mapping[str, Named]) -> None:
        self.entries = {asset: entry(asset, model) for asset, model in catalogue.items()}
        self._partly: dict[str, frozenset[str]] = {}
        self._serving: dict[frozenset[str], frozenset[str]] = {}
        self.strict = _strict(self.entries.values())
        self.loose = {term: self._loose(term) for term in self.strict}
        known = [e for e in self.entries.values() if not e.held_out]
        self.colours = tuple(sorted({e.colour for e in known if e.colour}))
        self.kinds = tuple(sorted({e.kind for e in known}))
        self.uses = tuple(sorted({use for e in known for use in e.uses}))
        self.askable = tuple(sorted({term for e in known for term in e.terms}))

    def _loose(self, term: str) -> frozenset[str]:
        tail = f' {term}'
        ends = (a for t, a in self.strict.items() if t == term or t.endswith(tail))
        found = frozenset().union(*ends)
        colour, _, rest = term.partition(' ')
        if rest in self.strict and colour == 'small':
            found |= self._loose(rest)
        if rest in self.strict and any(e.colour == colour for e in self.entries.values()):
            found |= self._loose(rest) & self.with_some_colour(colour)
        return found

    def with_colour(self, colour: str) -> frozenset[str]:
        """Assets whose colour is exactly `colour`."""
        return frozenset(a for a, e in self.entries.items() if e.colour == colour)

    def with_some_colour(self, colour: str) -> frozenset[str]:
        """Assets of which something could be called `colour` (or whose colour is not known)."""
        if colour not in self._partly:
            alike = {colour}.union(*(pair for pair in _ALIKE if colour in pair))
            self._partly[colour] = frozenset(
                a
                for a, e in self.entries.items()
                if not e.colour or e.colour in alike or any(colour in n.split() for n in e.names)
            )
        return self._partly[colour]

    def serving(self, *uses: str) -> frozenset[str]:
        """Assets that serve any of the uses."""
        wanted = frozenset(uses)
        if wanted not in self._serving:
            items = self.entries.items()
            self._serving[wanted] = frozenset(a for a, e in items if wanted & e.uses)
        return self._serving[wanted]


def entry(asset: str, model: Named) -> Entry:
    """The terms of one catalogue model."""
    colour, short = model.colour or '', short_name(model)
    names = tuple(dict.fromkeys((model.name, *model.synonyms)))
    # A red box of cookies is a red box; what is in it is not red.
    nouns = () if model.kind in _PRODUCTS else tuple(n for n in names if len(n.split()) == 1)
    coloured = tuple(f'{colour} {n}' for n in dict.fromkeys((model.kind, *nouns))) if colour else ()
    return Entry(
        asset=asset,
        short=short,
        kind=model.kind,
        colour=colour,
        names=names,
        coloured=coloured,
        uses=_uses(model),
        held_out=bool(model.held_out),
        terms=tuple(dict.fromkeys((model.kind, *names, *coloured, short))),
    )


def short_name(model: Named) -> str:
    """The name that answers use: colour and kind, or the product's name where it has one."""
    words = model.name.split()
    if model.kind in _PRODUCTS:
        return model.name
    if model.colour and set(model.colour.split()) <= set(words):
        return f'{model.colour} {model.kind}'
    return model.name


@lru_cache(maxsize=4096)
def plural(term: str) -> str:
    """Plural of a term: 'bowl of soup' -> 'bowls of soup', 'box' -> 'boxes'."""
    if uncounted(term):
        return term
    head, separator, rest = _head(term)
    *before, noun = head.split()
    return ' '.join((*before, _plural_noun(noun))) + separator + rest


def _plural_noun(noun: str) -> str:
    if noun in _PLURALS:
        return _PLURALS[noun]
    if noun.endswith(('s', 'x', 'ch', 'sh')):
        return noun + 'es'
    if noun.endswith('y') and noun[-2:-1] not in 'aeiou':
        return noun[:-1] + 'ies'
    return noun + 's'


@lru_cache(maxsize=4096)
def uncounted(term: str) -> bool:
    """Whether the term names a stuff or a plural, which take no "a" and no number."""
    noun = _head(term)[0].split()[-1]
    return noun in _MASS or (noun.endswith('s') and not noun.endswith('ss'))


def none_of(term: str) -> str:
    """That there is none of it: 'there is no mug', 'there are no cookies'."""
    noun = _head(term)[0].split()[-1]
    verb = 'are' if noun not in _MASS and uncounted(term) else 'is'
    return f'there {verb} no {term}'


def _head(term: str) -> tuple[str, str, str]:
    separator = next((s for s in (' with ', ' to ', ' of ') if s in term), ' of ')
    return term.partition(separator)


def _uses(model: Named) -> frozenset[str]:
    # A cup is to drink from; only what is in a bottle or carton is to drink.
    uses = frozenset(model.uses)
    return uses - {'drink'} if 'drink from' in uses else uses


def article(term: str) -> str:
    """The term with its indefinite article."""
    if uncounted(term):
        return f'some {term}'
    return f'an {term}' if term[0] in 'aeiou' else f'a {term}'


def _strict(entries: Iterable[Entry]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {term: set() for term in GENERIC}
    for item in entries:
        for term in (*item.terms, *GENERIC):
            found.setdefault(term, set()).add(item.asset)
    return {term: frozenset(assets) for term, assets in found.items()}


@lru_cache(maxsize=1)
def default_lexicon() -> Lexicon:
    """The lexicon of the tabletop catalogue."""
    from unifiedmllm_ros.tabletop.catalogue import CATALOGUE

    return Lexicon(CATALOGUE)
