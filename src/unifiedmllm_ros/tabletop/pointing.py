"""Questions that ask for objects: by name, colour, relation, order, size, use; several; none."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from unifiedmllm_ros.tabletop import referring
from unifiedmllm_ros.tabletop.asked import (
    ATTEMPTS,
    HOLDS,
    Asked,
    all_of,
    any_named,
    countable,
    missing,
    none_there,
    one,
    shared_noun,
    spoken,
)
from unifiedmllm_ros.tabletop.lexicon import GENERIC, plural, uncounted
from unifiedmllm_ros.tabletop.phrasings import (
    ALL,
    BOTH,
    COLOURED,
    EVERYTHING,
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

NEEDED_SHARE = 0.8
"""How often a colour or relation is asked of a noun that alone would be ambiguous."""

RANKS: Mapping[str, tuple[str, int, int]] = {
    'leftmost': ('u', 1, 0),
    'rightmost': ('u', -1, 0),
    'second from the left': ('u', 1, 1),
    'second from the right': ('u', -1, 1),
    'third from the left': ('u', 1, 2),
    'nearest to the camera': ('depth', 1, 0),
    'farthest from the camera': ('depth', -1, 0),
}
"""Orders: the axis of a seen object, the direction along it, and the place in that row."""


def by_name(view: View, rng: Random, split: str) -> Asked | None:
    """An object by one of its names: "the red coffee mug", "the cup"."""
    seen = any_named(view, rng)
    if seen is None:
        return None
    return one(seen, named(rng.choice(view.names(seen)), rng))


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
    return one(seen, definite(words, rng), relation=seen.entry.colour, needed=need)


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
        noun, order = shared_noun(view, rng), rng.choice(tuple(RANKS))
        seen = ranked(view.pool(noun), order)
        if seen is not None:
            words = draw(ORDERS[order], split, rng).format(n=spoken(noun, rng))
            return one(seen, definite(words, rng), relation=order, needed=True)
    return None


def by_superlative(view: View, rng: Random, split: str) -> Asked | None:
    """An object by its size: "the biggest bowl"."""
    for _ in range(ATTEMPTS):
        noun, size = shared_noun(view, rng), rng.choice(tuple(SUPERLATIVES))
        seen = sized(view.pool(noun), size)
        if seen is not None:
            words = draw(SUPERLATIVES[size], split, rng).format(n=spoken(noun, rng))
            return one(seen, definite(words, rng), relation=size, needed=True)
    return None


def by_use(view: View, rng: Random, split: str) -> Asked | None:
    """Objects by what they are good for; several where more than one is, none where none is."""
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
            return one(pool.members[0], words, relation=use, needed=True)
        if pool.members:
            return all_of(pool, words, f'thing to {use}', relation=use)
        if view.nothing_serves(use):
            return none_there(words, f'thing to {use}')
    return None


def several(view: View, rng: Random, split: str) -> Asked | None:
    """All instances of a noun or a colour: "both mugs", "all red things"."""
    choices = [c for c in countable(view, rng) if c[1].clear and c[1].members]
    if not choices:
        return None
    many = [c for c in choices if len(c[1].members) > 1]
    term, pool = (many or choices)[0]
    bank = BOTH if len(pool.members) == 2 and rng.random() < 0.5 else ALL
    return all_of(pool, draw(bank, split, rng).format(ns=plural(term)), term)


def absent(view: View, rng: Random, split: str) -> Asked | None:
    """A thing that is not there, asked for as if it were."""
    term = missing(view, rng)
    if term is None:
        return None
    if rng.random() < 0.12 and not uncounted(term):
        return none_there(draw(ALL, split, rng).format(ns=plural(term)), term, 'all')
    return none_there(named(term, rng), term)


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


def _related(view: View, rng: Random, split: str, relation: str) -> Asked | None:
    target = any_named(view, rng)
    if target is None:
        return None
    kind = rng.choice(view.referable).entry.kind
    noun = shared_noun(view, rng) if rng.random() < NEEDED_SHARE else kind
    words = definite(rng.choice(view.names(target)), rng)
    wording = draw(RELATIONS[relation], split, rng)
    if relation == 'between':
        other = any_named(view, rng, but=(target,))
        if other is None:
            return None
        second = definite(rng.choice(view.names(other)), rng)
        seen = _denoted(view.pool(noun), relation, target, other)
        slots = {'rel': wording.format(b=words, c=second), 'y': ''}
    else:
        seen = _denoted(view.pool(noun), relation, target)
        slots = {'rel': wording, 'y': words}
    return None if seen is None else _placed(view, rng, split, seen, noun, relation, slots)


def _denoted(pool: Pool, relation: str, *targets: Seen) -> Seen | None:
    if relation == 'nearest to':
        return referring.nearest(pool, *targets)
    holds = referring.between if relation == 'between' else HOLDS[relation]
    return pool.without(*targets).select(lambda seen: holds(seen, *targets))


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
    words = draw(RELATED, split, rng).format(n=spoken(noun, rng), **slots).strip()
    return one(seen, definite(words, rng), relation=relation, needed=needed)
