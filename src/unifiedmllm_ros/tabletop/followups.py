"""What may follow a turn of a dialogue and refer back to it, with its answer.

Each follower gets the state, and gives a follow-up that ground truth settles, or None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from unifiedmllm_ros.representation import Box, Region, Response, TaskCall
from unifiedmllm_ros.tabletop import changing
from unifiedmllm_ros.tabletop.asked import any_named
from unifiedmllm_ros.tabletop.dialogue_state import Focus, State, recoloured, replaced, without
from unifiedmllm_ros.tabletop.lexicon import article, none_of, plural, uncounted
from unifiedmllm_ros.tabletop.phrasings import REQUESTS
from unifiedmllm_ros.tabletop.questions import MADE_OF_WORDS, Question
from unifiedmllm_ros.tabletop.record import canonical_box
from unifiedmllm_ros.tabletop.referring import Seen, left_to_right
from unifiedmllm_ros.tabletop.task_phrasings import PLACES
from unifiedmllm_ros.tabletop.task_words import composed, new_thing
from unifiedmllm_ros.tabletop.wording import definite, draw

_MARKING = ('ground', 'seg', 'vidseg')


@dataclass(frozen=True)
class Followed:
    """A follow-up: the bank of its wording, its slots, its answer, and the state after it."""

    bank: str
    slots: dict[str, str]
    answer: Response
    task: str
    after: State
    targets: tuple[Seen, ...] = ()
    exact: bool = False


Follower = Callable[[State, Random, str], Followed | None]


def follow_up(state: State, rng: Random, split: str) -> Followed | None:
    """A follow-up of the last turn, None where it offers nothing to refer to."""
    followers = list(_followers(state))
    rng.shuffle(followers)
    for follower in followers:
        followed = follower(state, rng, split)
        if followed is not None:
            return followed
    return None


def _followers(state: State) -> tuple[Follower, ...]:
    """What may follow, by what was last said."""
    last = state.last
    if last is None:
        return ()
    task = last.task
    if task in MADE_OF_WORDS:
        turned = (_then_edit, _as_video, _as_sound)
        return turned if last.relation == 'again' else (_again, *turned)
    if task == 'regedit' and state.focus is None:
        return (_still, _still, _count_left, _count_left, _other, _also)
    if state.focus is None:
        return (_also,) if task == 'absent' else ()
    if len(state.focus.boxes) > 1:
        return (_mark_them,)
    if state.focus.new:
        return (_mark_new, _mark_new, _remove, _recolour)
    changes: tuple[Follower, ...] = (_mark, _remove, _recolour)
    if state.edited:
        return (*changes, _also) if task == 'regedit' else changes
    return (*changes, _mark, _replace, _add, _other, _other, _also, _also)


def _mark(state: State, rng: Random, split: str) -> Followed | None:
    return _marked(state, rng, 'it')


def _mark_them(state: State, rng: Random, split: str) -> Followed | None:
    return _marked(state, rng, 'them')


def _marked(state: State, rng: Random, pronoun: str) -> Followed | None:
    focus, last = state.focus, state.last
    assert focus
    assert last
    # A count or a yes has shown where it is already.
    shown = 'ground' if last.answer.regions and not last.answer.calls else last.task
    task = rng.choice([t for t in _MARKING if t != shown])
    bank = {'ground': 'ground', 'seg': 'seg', 'vidseg': 'track'}[task]
    answer = marking(task, focus.phrase, focus.boxes)
    return Followed(f'{pronoun}_{bank}', {}, answer, task, state, focus.seen)


def _mark_new(state: State, rng: Random, split: str) -> Followed | None:
    assert state.focus
    if state.last and state.last.task != 'regedit':
        return _marked(state, rng, 'it')
    task = rng.choice(('seg', 'seg', 'ground'))
    answer = marking(task, state.focus.phrase, state.focus.boxes)
    return Followed(f'new_{task}', {}, answer, task, state)


def marking(task: str, phrase: str, boxes: tuple[Box, ...]) -> Response:
    """The answer that shows where something is: `ground`, or a call of `seg` or `vidseg`."""
    region = Region(phrase, boxes)
    return Response((region,)) if task == 'ground' else Response((TaskCall(task, '', (region,)),))


def _remove(state: State, rng: Random, split: str) -> Followed | None:
    focus = state.focus
    assert focus
    answer = changing.removal(focus.phrase, focus.boxes[0].corners)
    after = without(state, focus.seen)
    return Followed('it_remove', {}, answer, 'regedit', after, focus.seen)


def _recolour(state: State, rng: Random, split: str) -> Followed | None:
    focus = state.focus
    assert focus
    colour = changing.new_colour(rng, split, focus.kind, focus.colour)
    answer = changing.recolouring(focus.phrase, focus.boxes[0].corners, colour)
    after = recoloured(state, colour)
    return Followed('it_recolour', {'c': colour}, answer, 'regedit', after, focus.seen, True)


def _replace(state: State, rng: Random, split: str) -> Followed | None:
    focus = state.focus
    assert focus
    new = article(new_thing(rng, split, focus.kind))
    answer = changing.replacement(focus.phrase, focus.boxes[0].corners, new)
    after = replaced(state, new)
    return Followed('it_replace', {'new': new}, answer, 'regedit', after, focus.seen, True)


def _add(state: State, rng: Random, split: str) -> Followed | None:
    focus, side = state.focus, rng.choice(changing.SIDES)
    assert focus
    (seen,) = focus.seen
    taken = [s.record.box for s in state.view.seen if s.index != seen.index]
    box = changing.free_box(seen.record.box, side, taken)
    if box is None:
        return None
    new = new_thing(rng, split, f'{side}/{focus.kind}')
    slots = {'new': article(new), 'rel': draw(PLACES[side], split, rng)}
    answer = changing.addition(new, box, side, focus.phrase)
    after = replace(state, focus=Focus(new, (box,), kind=new, new=True), edited=True)
    return Followed('it_add', slots, answer, 'regedit', after, exact=True)


def _other(state: State, rng: Random, split: str) -> Followed | None:
    """The second of two things of one kind, when the first was the matter."""
    one = state.focus.seen if state.focus else state.removed[-1:]
    if len(one) != 1 or (state.last and state.last.targets != (one[0].index,)):
        return None
    left = state.view.pool(one[0].entry.kind).without(*one)
    seen = left.only()
    return _same(state, seen, 'other', {}) if seen else None


def _also(state: State, rng: Random, split: str) -> Followed | None:
    """The same with a thing named anew."""
    but = state.focus.seen if state.focus else ()
    seen = any_named(state.view, rng, but)
    if seen is None or seen.entry.kind in state.touched:
        return None
    return _same(state, seen, 'also', {'x': definite(rng.choice(state.view.names(seen)), rng)})


def _same(state: State, seen: Seen, bank: str, slots: dict[str, str]) -> Followed | None:
    """What was done last, done to `seen`; None where that was nothing of the kind."""
    task = _task_again(state.last)
    boxes = (canonical_box(seen.record.box),)
    focus = Focus(seen.entry.short, boxes, (seen,), seen.entry.kind, seen.entry.colour)
    moved = replace(state, focus=focus, colour='')
    if task in _MARKING:
        return Followed(bank, slots, marking(task, focus.phrase, boxes), task, moved, (seen,))
    if task == 'remove':
        answer = changing.removal(focus.phrase, seen.record.box)
        return Followed(bank, slots, answer, 'regedit', without(moved, (seen,)), (seen,))
    if task == 'recolour' and state.colour not in ('', seen.entry.colour):
        answer = changing.recolouring(focus.phrase, seen.record.box, state.colour)
        after = recoloured(moved, state.colour)
        return Followed(bank, slots, answer, 'regedit', after, (seen,))
    return None


def _task_again(last: Question | None) -> str:
    """What the last answer did: a kind of marking, `remove`, `recolour`, or nothing to repeat."""
    if last is None:
        return ''
    if last.task == 'absent':
        ground, seg = REQUESTS['one_ground'], REQUESTS['one_seg']
        if last.template in ground.train + ground.test:
            return 'ground'
        return 'seg' if last.template in seg.train + seg.test else ''
    if last.task == 'regedit':
        argument = last.answer.calls[0].argument
        return {'remove': 'remove', 'paint': 'recolour'}.get(argument.partition(' ')[0], '')
    return last.task if last.task in _MARKING else ''


def _again(state: State, rng: Random, split: str) -> Followed | None:
    assert state.last
    return Followed('again', {}, state.last.answer, state.last.task, state)


def _then_edit(state: State, rng: Random, split: str) -> Followed | None:
    assert state.last
    if state.last.task not in ('gen', 'edit'):
        return None
    words = composed('edit', rng, split)
    answer = Response((TaskCall('edit', words),))
    return Followed('then_edit', {'e': words}, answer, 'edit', state, exact=True)


def _as_video(state: State, rng: Random, split: str) -> Followed | None:
    return _turned(state, 'gen', 'vidgen', 'as_video')


def _as_sound(state: State, rng: Random, split: str) -> Followed | None:
    return _turned(state, 'vidgen', 'audgen', 'as_sound')


def _turned(state: State, task: str, other: str, bank: str) -> Followed | None:
    assert state.last
    if state.last.task != task:
        return None
    answer = Response((TaskCall(other, state.last.answer.calls[0].argument),))
    return Followed(bank, {}, answer, other, state)


def _still(state: State, rng: Random, split: str) -> Followed | None:
    if not state.removed or state.edited:
        return None
    term = rng.choice(state.removed[-1].entry.terms)
    pool = state.view.pool(term)
    if not pool.clear:
        return None
    slots = {'a': article(term), 'n': term, 'ns': plural(term)}
    if not pool.members:
        answer = Response((f'No, {none_of(term)}.',))
        return Followed('still', slots, answer, 'yesno', replace(state, focus=None))
    return _shown(state, 'still', slots, 'Yes. ', term, pool.members, 'yesno')


def _count_left(state: State, rng: Random, split: str) -> Followed | None:
    if not state.removed or state.edited:
        return None
    term = rng.choice((state.removed[-1].entry.kind, 'object'))
    pool = state.view.pool(term)
    if not pool.clear or uncounted(term):
        return None
    slots, number = {'ns': plural(term)}, len(pool.members)
    if not number:
        answer = Response((f'T{none_of(term)[1:]}.',))
        return Followed('count_left', slots, answer, 'count', replace(state, focus=None))
    some = f'is 1 {term}' if number == 1 else f'are {number} {plural(term)}'
    return _shown(state, 'count_left', slots, f'There {some}. ', term, pool.members, 'count')


def _shown(
    state: State, bank: str, slots: dict[str, str], prose: str, term: str,
    members: tuple[Seen, ...], task: str,
) -> Followed:  # fmt: skip
    seen = left_to_right(members)
    boxes = tuple(canonical_box(s.record.box) for s in seen)
    focus = Focus(term, boxes, seen)
    if len(seen) == 1:
        entry = seen[0].entry
        focus = Focus(entry.short, boxes, seen, entry.kind, entry.colour)
    answer = Response((prose, Region(term, boxes)))
    return Followed(bank, slots, answer, task, replace(state, focus=focus), seen)
