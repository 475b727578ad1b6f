"""Something to ask about a scene with what answers it, and the draws that proposers share.

A proposer looks at a scene and gives an `Asked` that ground truth settles without doubt, or None
where the scene offers nothing of its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from unifiedmllm_ros.representation import Response
from unifiedmllm_ros.tabletop import referring
from unifiedmllm_ros.tabletop.lexicon import GENERIC, none_of, uncounted
from unifiedmllm_ros.tabletop.phrasings import NEVER_SEEN
from unifiedmllm_ros.tabletop.referring import Pool, Seen, View

ATTEMPTS = 12

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


@dataclass(frozen=True)
class Arrangement:
    """What a sentence says of a picture to be made: how many of each class, in its order, and
    which class stands where from which other."""

    counts: tuple[tuple[str, int], ...]
    relations: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class Asked:
    """Something to ask and what answers it.

    `request` names the bank of templates, `slots` fill them; the answer is `prose` followed by the
    targets' boxes under `phrase`, or `answer` where that is given. `relation` is the relation,
    order or size that was used, and `needed` says that the noun alone would not have settled the
    answer. `arrangement` is what a layout has to satisfy.
    """

    request: str
    slots: Mapping[str, str]
    targets: tuple[Seen, ...] = ()
    phrase: str = ''
    prose: str = ''
    task: str = ''
    relation: str = ''
    needed: bool = False
    answer: Response | None = None
    arrangement: Arrangement | None = None


Proposer = Callable[[View, Random, str], Asked | None]


def one(seen: Seen, words: str, relation: str = '', needed: bool = False) -> Asked:
    """Ask for one object, described by `words`; the answer gives it its short name."""
    slots = {'x': words}
    return Asked('one', slots, (seen,), seen.entry.short, relation=relation, needed=needed)


def all_of(pool: Pool, words: str, phrase: str, relation: str = '') -> Asked:
    """Ask for all members of a pool; the answer has one phrase and several boxes."""
    return Asked('all', {'xs': words}, pool.members, phrase, relation=relation)


def none_there(words: str, term: str, request: str = 'one', task: str = 'absent') -> Asked:
    """Ask for a thing that is not there."""
    slot = {'one': 'x', 'all': 'xs', 'count': 'ns'}[request]
    return Asked(request, {slot: words}, prose=f'T{none_of(term)[1:]}.', task=task)


def any_named(view: View, rng: Random, but: tuple[Seen, ...] = ()) -> Seen | None:
    """An object that some term of its own denotes, or None."""
    found = [s for s in view.referable if s not in but and view.names(s)]
    return rng.choice(found) if found else None


def shared_noun(view: View, rng: Random) -> str:
    """A noun that mostly needs more words to be clear: of several objects, or just "object"."""
    nouns = view.shared_nouns()
    return rng.choice(nouns) if nouns and rng.random() < 0.6 else 'object'


def spoken(noun: str, rng: Random) -> str:
    """The noun as said: "object" has synonyms."""
    return rng.choice(GENERIC) if noun == 'object' else noun


def countable(view: View, rng: Random) -> list[tuple[str, Pool]]:
    """Nouns that have a plural and occur in the scene, with their pools, in random order."""
    kinds = (s.entry.kind for s in view.referable)
    terms = [t for t in dict.fromkeys((*view.shared_nouns(), *kinds)) if not uncounted(t)]
    rng.shuffle(terms)
    nouns = [(term, view.pool(term)) for term in terms]
    colours = dict.fromkeys(s.entry.colour for s in view.referable if s.entry.colour)
    groups = [(f'{colour} thing', view.coloured(colour)) for colour in colours]
    groups.append(('object', view.pool('object')))
    rng.shuffle(groups)
    choices = groups + nouns if rng.random() < 0.25 else nouns + groups
    if rng.random() < 0.6:
        choices.sort(key=lambda choice: len(choice[1].members) < 2)
    return choices


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
    return None if taboo or any(o.name in partly for o in view.scene.objects) else term
