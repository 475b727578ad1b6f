"""One proposer per kind of question: looks at a scene and finds something unambiguous to ask.

A proposer draws from the scene until it has a description whose answer ground truth settles, or
gives None where the scene offers nothing of its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from unifiedmllm_ros.tabletop import referring
from unifiedmllm_ros.tabletop.lexicon import GENERIC, article, none_of, plural, uncounted
from unifiedmllm_ros.tabletop.phrasings import (
    ALL,
    BOTH,
    COLOURED,
    EVERYTHING,
    NEVER_SEEN,
    ORDERS,
    RELATED,
    RELATIONS,
    SOME,
    SUPERLATIVES,
    USE,
    USES,
)
from unifiedmllm_ros.tabletop.referring import Pool, Seen, View
from unifiedmllm_ros.tabletop.wording import definite, draw, named

ATTEMPTS = 12
NEEDED_SHARE = 0.8
"""How often a relation, order or size is asked of a noun that alone would be ambiguous."""

INVERSE = {
    'left of': 'right of',
    'right of': 'left of',
    'in front of': 'behind',
    'behind': 'in front of',
}
HOLDS: Mapping[str, Callable[[Seen, Seen], referring.Verdict]] = {
    'left of': referring.left_of,
    'right of': referring.right_of,
    'in front of': referring.in_front_of,
    'behind': referring.behind,
    'next to': referring.next_to,
}
RANKS: Mapping[str, tuple[str, int, int]] = {
    'leftmost': ('u', 1, 0),
    'rightmost': ('u', -1, 0),
    'second from the left': ('u', 1, 1),
    'second from the right': ('u', -1, 1),
    'third from the left': ('u', 1, 2),
    'nearest to the camera': ('depth', 1, 0),
    'farthest from the camera': ('depth', -1, 0),
}


@dataclass(frozen=True)
class Asked:
    """Something to ask and what answers it.

    `request` names the bank of templates, `slots` fill them; the answer is `prose` followed by the
    targets' boxes under `phrase`. `relation` is the relation, order or size that was used, and
    `needed` says that the noun alone would not have settled the answer.
    """

    request: str
    slots: Mapping[str, str]
    targets: tuple[Seen, ...] = ()
    phrase: str = ''
    prose: str = ''
    task: str = ''
    relation: str = ''
    needed: bool = False


Proposer = Callable[[View, Random, str], Asked | None]


def by_name(view: View, rng: Random, split: str) -> Asked | None:
    """An object by one of its names: "the red coffee mug", "the cup"."""
    seen = _any_named(view, rng)
    if seen is None:
        return None
    return _one(seen, named(rng.choice(view.names(seen)), rng))


def by_colour(view: View, rng: Random, split: str) -> Asked | None:
    """An object by colour and kind, preferring kinds that occur in several colours."""
    found: list[tuple[Seen, str, bool]] = []
    for seen in view.referable:
        colour, kind = seen.entry.colour, seen.entry.kind
        if not colour:
            continue
        if f'{colour} {kind}' in view.names(seen):
            found.append((seen, kind, len(view.pool(kind).members) > 1))
        if view.coloured(colour).only() is seen and rng.random() < 0.3:
            found.append((seen, rng.choice((*GENERIC, 'one')), True))
    if not found:
        return None
    needed = [f for f in found if f[2]]
    seen, noun, need = rng.choice(needed if needed and rng.random() < NEEDED_SHARE else found)
    pattern = '{colour} {n}' if rng.random() < 0.6 else draw(COLOURED, split, rng)
    words = pattern.format(colour=seen.entry.colour, n=noun)
    return _one(seen, definite(words, rng), relation=seen.entry.colour, needed=need)


def by_relation(view: View, rng: Random, split: str) -> Asked | None:
    """An object by where it stands to another: "the mug left of the plate"."""
    fallback = None
    for _ in range(ATTEMPTS):
        relation = rng.choice((*HOLDS, 'left of', 'right of', 'nearest to', 'between'))
        asked = _related(view, rng, split, relation)
        if asked is not None and asked.needed:
            return asked
        fallback = fallback or asked
    return fallback


def by_order(view: View, rng: Random, split: str) -> Asked | None:
    """An object by its place in a row: "the second mug from the left"."""
    for _ in range(ATTEMPTS):
        noun, order = _shared(view, rng), rng.choice(tuple(RANKS))
        seen = ranked(view.pool(noun), order)
        if seen is not None:
            words = draw(ORDERS[order], split, rng).format(n=_spoken(noun, rng))
            return _one(seen, definite(words, rng), relation=order, needed=True)
    return None


def by_superlative(view: View, rng: Random, split: str) -> Asked | None:
    """An object by its size: "the biggest bowl"."""
    for _ in range(ATTEMPTS):
        noun, size = _shared(view, rng), rng.choice(tuple(SUPERLATIVES))
        seen = sized(view.pool(noun), size)
        if seen is not None:
            words = draw(SUPERLATIVES[size], split, rng).format(n=_spoken(noun, rng))
            return _one(seen, definite(words, rng), relation=size, needed=True)
    return None


def by_use(view: View, rng: Random, split: str) -> Asked | None:
    """An object by what it is good for; several where the words say so, none where none is."""
    uses = list(view.lexicon.uses)
    rng.shuffle(uses)
    for use in uses:
        pool = view.usable(use)
        if not pool.clear or (not pool.members and rng.random() < 0.9):
            continue
        bank = USES[use] if use in USES and rng.random() < 0.4 else USE
        some = draw(EVERYTHING if len(pool.members) > 1 else SOME, split, rng)
        words = draw(bank, split, rng).format(some=some, use=use)
        if len(pool.members) == 1:
            return _one(pool.members[0], words, relation=use, needed=True)
        if pool.members:
            return _all(pool, words, f'thing to {use}', relation=use)
        return _none(words, f'thing to {use}')
    return None


def several(view: View, rng: Random, split: str) -> Asked | None:
    """All instances of a noun or a colour: "both mugs", "all red things"."""
    choices = _plural_choices(view, rng)
    for term, pool in choices:
        if pool.clear and len(pool.members) > 1:
            bank = BOTH if len(pool.members) == 2 and rng.random() < 0.5 else ALL
            words = draw(bank, split, rng).format(ns=plural(term))
            return _all(pool, words, term)
    for term, pool in choices:
        if pool.clear and pool.members:
            return _all(pool, draw(ALL, split, rng).format(ns=plural(term)), term)
    return None


def absent(view: View, rng: Random, split: str) -> Asked | None:
    """A thing that is not there, asked for as if it were."""
    term = missing(view, rng)
    if term is None:
        return None
    if rng.random() < 0.12 and not uncounted(term):
        words = draw(ALL, split, rng).format(ns=plural(term))
        return Asked('all', {'xs': words}, prose=_nothing(term), task='absent')
    return _none(named(term, rng), term)


def count(view: View, rng: Random, split: str) -> Asked | None:
    """How many of a noun there are, none included."""
    if rng.random() < 0.15:
        term = missing(view, rng)
        if term is not None and not uncounted(term):
            return Asked('count', {'ns': plural(term)}, prose=_nothing(term), task='count')
    for term, pool in _plural_choices(view, rng):
        if pool.clear and pool.members:
            number = len(pool.members)
            are = 'There is 1' if number == 1 else f'There are {number}'
            prose = f'{are} {term if number == 1 else plural(term)}. '
            slots = {'ns': plural(term)}
            return Asked('count', slots, pool.members, phrase=term, prose=prose, task='count')
    return None


def yes_or_no(view: View, rng: Random, split: str) -> Asked | None:
    """Whether a thing is there, stands so, or has a colour; about as many yes as no."""
    asks = [_exists, _exists, _holds, _holds, _has_colour]
    rng.shuffle(asks)
    for ask in asks:
        asked = ask(view, rng, split)
        if asked is not None:
            return asked
    return None


PROPOSERS: Mapping[str, Proposer] = {
    'name': by_name,
    'colour': by_colour,
    'relation': by_relation,
    'order': by_order,
    'superlative': by_superlative,
    'use': by_use,
    'several': several,
    'absent': absent,
    'count': count,
    'yesno': yes_or_no,
}


def ranked(pool: Pool, order: str) -> Seen | None:
    """The member of `pool` with this place in a row, or None where it is not clear."""
    axis, sign, rank = RANKS[order]
    margin = referring.ORDER_MARGIN if axis == 'u' else referring.DEPTH_MARGIN
    return pool.extreme(lambda s: sign * getattr(s, axis), rank, margin)


def sized(pool: Pool, size: str) -> Seen | None:
    """The largest, smallest or tallest member of `pool`, or None where it is not clear."""
    if size == 'tallest':
        return referring.tallest(pool)
    return referring.largest(pool, 1 if size == 'largest' else -1)


def missing(view: View, rng: Random) -> str | None:
    """A term that nothing in the scene, seen or hidden, could be called."""
    for _ in range(ATTEMPTS):
        dice = rng.random()
        if dice < 0.25:
            return rng.choice(NEVER_SEEN)
        if dice < 0.55 and view.referable and view.lexicon.colours:
            term = _wrong_colour(view, rng)
        else:
            term = rng.choice(view.lexicon.askable)
        if term is not None and view.without_doubt_absent(term):
            return term
    return None


def _wrong_colour(view: View, rng: Random) -> str | None:
    kind, colour = rng.choice(view.referable).entry.kind, rng.choice(view.lexicon.colours)
    term, lexicon = f'{colour} {kind}', view.lexicon
    partly = lexicon.loose[kind] & lexicon.with_some_colour(colour)
    # A term that only held-out objects bear must not be taught as a thing that is never there.
    taboo = term in lexicon.strict and term not in lexicon.askable
    return None if taboo or any(s.entry.asset in partly for s in view.seen) else term


def _one(seen: Seen, words: str, relation: str = '', needed: bool = False) -> Asked:
    slots = {'x': words}
    return Asked('one', slots, (seen,), seen.entry.short, relation=relation, needed=needed)


def _all(pool: Pool, words: str, phrase: str, relation: str = '') -> Asked:
    return Asked('all', {'xs': words}, pool.members, phrase, relation=relation)


def _none(words: str, term: str) -> Asked:
    return Asked('one', {'x': words}, prose=_nothing(term), task='absent')


def _nothing(term: str) -> str:
    return f'T{none_of(term)[1:]}.'


def _any_named(view: View, rng: Random, but: tuple[Seen, ...] = ()) -> Seen | None:
    named_ones = [s for s in view.referable if s not in but and view.names(s)]
    return rng.choice(named_ones) if named_ones else None


def _shared(view: View, rng: Random) -> str:
    nouns = view.shared_nouns()
    return rng.choice(nouns) if nouns and rng.random() < 0.6 else 'object'


def _spoken(noun: str, rng: Random) -> str:
    return rng.choice(GENERIC) if noun == 'object' else noun


def _plural_choices(view: View, rng: Random) -> list[tuple[str, Pool]]:
    kinds = list(dict.fromkeys(s.entry.kind for s in view.referable))
    colours = list(dict.fromkeys(s.entry.colour for s in view.referable if s.entry.colour))
    choices = [(t, view.pool(t)) for t in dict.fromkeys((*view.shared_nouns(), *kinds))]
    choices = [c for c in choices if not uncounted(c[0])]
    rng.shuffle(choices)
    extra = [(f'{c} thing', view.coloured(c)) for c in colours] + [('object', view.pool('object'))]
    dice = rng.random()
    if dice < 0.25:
        rng.shuffle(extra)
        return extra + choices
    return choices + extra


def _related(view: View, rng: Random, split: str, relation: str) -> Asked | None:
    target = _any_named(view, rng)
    if target is None:
        return None
    nouns = (_shared(view, rng), rng.choice(view.referable).entry.kind)
    noun = nouns[0] if rng.random() < NEEDED_SHARE else nouns[1]
    pool, words = view.pool(noun), definite(rng.choice(view.names(target)), rng)
    if relation == 'between':
        other = _any_named(view, rng, but=(target,))
        if other is None:
            return None
        seen = pool.without(target, other).select(lambda s: referring.between(s, target, other))
        second = definite(rng.choice(view.names(other)), rng)
        rel = draw(RELATIONS[relation], split, rng).format(b=words, c=second)
        slots = {'rel': rel, 'y': ''}
    else:
        if relation == 'nearest to':
            seen = referring.nearest(pool, target)
        else:
            holds = HOLDS[relation]
            seen = pool.without(target).select(lambda s: holds(s, target))
        slots = {'rel': draw(RELATIONS[relation], split, rng), 'y': words}
    if seen is None:
        return None
    return _placed(view, rng, split, seen, noun, relation, slots)


def _placed(
    view: View,
    rng: Random,
    split: str,
    seen: Seen,
    noun: str,
    relation: str,
    slots: Mapping[str, str],
) -> Asked:
    needed = len(view.pool(noun).members) > 1
    if noun == 'object' and relation != 'nearest to' and rng.random() < 0.35:
        return Asked('what', slots, (seen,), seen.entry.short, relation=relation, needed=True)
    words = draw(RELATED, split, rng).format(n=_spoken(noun, rng), **slots).strip()
    return _one(seen, definite(words, rng), relation=relation, needed=needed)


def _exists(view: View, rng: Random, split: str) -> Asked | None:
    if rng.random() < 0.5:
        term = missing(view, rng)
        pool = Pool((), ())
    else:
        found = _any_named(view, rng)
        term = found and rng.choice(found.entry.terms)
        pool = view.pool(term) if term else Pool((), ())
    if not term or not pool.clear:
        return None
    slots = {'a': article(term), 'n': term, 'ns': plural(term)}
    prose = 'Yes. ' if pool.members else f'No, {none_of(term)}.'
    return Asked('exists', slots, pool.members, phrase=term, prose=prose, task='yesno')


def _holds(view: View, rng: Random, split: str) -> Asked | None:
    for _ in range(ATTEMPTS):
        a = _any_named(view, rng)
        b = _any_named(view, rng, but=(a,)) if a else None
        if a is None or b is None:
            return None
        relation = rng.choice((*INVERSE, *INVERSE, 'next to'))
        verdict = HOLDS[relation](a, b)
        inverse = INVERSE.get(relation)
        if verdict is None or (not verdict and inverse and not HOLDS[inverse](a, b)):
            continue
        x, y = rng.choice(view.names(a)), rng.choice(view.names(b))
        slots = {
            'x': f'the {x}',
            'y': f'the {y}',
            'rel': draw(RELATIONS[relation], split, rng),
        }
        fact = relation if verdict else inverse or f'not {relation}'
        prose = f'{"Yes" if verdict else "No"}, the {x} is {fact} the {y}.'
        return Asked('holds', slots, prose=prose, task='yesno', relation=relation)
    return None


def _has_colour(view: View, rng: Random, split: str) -> Asked | None:
    lexicon, found = view.lexicon, []
    for seen in view.referable:
        colour = seen.entry.colour
        found += [(seen, t) for t in view.names(seen) if colour and colour not in t.split()]
    if not found:
        return None
    seen, term = rng.choice(found)
    true = seen.entry.colour
    others = [c for c in lexicon.colours if seen.entry.asset not in lexicon.with_some_colour(c)]
    asked = true if rng.random() < 0.5 or not others else rng.choice(others)
    prose = f'{"Yes" if asked == true else "No"}, the {term} is {true}.'
    slots = {'x': f'the {term}', 'colour': asked}
    return Asked('coloured', slots, prose=prose, task='yesno', relation=asked)
