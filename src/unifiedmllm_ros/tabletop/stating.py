"""Questions that ask for a statement: how many there are, whether a thing is there or stands so."""

from __future__ import annotations

from random import Random

from unifiedmllm_ros.tabletop.asked import (
    ATTEMPTS,
    HOLDS,
    INVERSE,
    Asked,
    any_named,
    countable,
    missing,
    none_there,
)
from unifiedmllm_ros.tabletop.lexicon import article, none_of, plural, uncounted
from unifiedmllm_ros.tabletop.phrasings import RELATIONS
from unifiedmllm_ros.tabletop.referring import Pool, View
from unifiedmllm_ros.tabletop.wording import draw


def count(view: View, rng: Random, split: str) -> Asked | None:
    """How many of a noun there are, none included."""
    if rng.random() < 0.15:
        term = missing(view, rng)
        if term is not None and not uncounted(term):
            return none_there(plural(term), term, 'count', task='count')
    for term, pool in countable(view, rng):
        if pool.clear and pool.members:
            number = len(pool.members)
            some = f'is 1 {term}' if number == 1 else f'are {number} {plural(term)}'
            slots, prose = {'ns': plural(term)}, f'There {some}. '
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


def _exists(view: View, rng: Random, split: str) -> Asked | None:
    pool = Pool((), ())
    if rng.random() < 0.5 or not view.referable:
        term = missing(view, rng)
    else:
        term = rng.choice(rng.choice(view.referable).entry.terms)
        pool = view.pool(term)
    if not term or not pool.clear:
        return None
    slots = {'a': article(term), 'n': term, 'ns': plural(term)}
    prose = 'Yes. ' if pool.members else f'No, {none_of(term)}.'
    return Asked('exists', slots, pool.members, phrase=term, prose=prose, task='yesno')


def _holds(view: View, rng: Random, split: str) -> Asked | None:
    for _ in range(ATTEMPTS):
        a = any_named(view, rng)
        b = any_named(view, rng, but=(a,)) if a else None
        if a is None or b is None:
            return None
        relation = rng.choice((*INVERSE, *INVERSE, 'next to'))
        verdict = HOLDS[relation](a, b)
        inverse = INVERSE.get(relation)
        if verdict is None or (not verdict and inverse and not HOLDS[inverse](a, b)):
            continue
        x, y = rng.choice(view.names(a)), rng.choice(view.names(b))
        slots = {'x': f'the {x}', 'y': f'the {y}', 'rel': draw(RELATIONS[relation], split, rng)}
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
