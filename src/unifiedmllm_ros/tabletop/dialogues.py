"""Dialogues of several turns about a scene, in which later turns refer back to earlier ones.

Ground truth follows the dialogue: what was taken away is not there any more, what was painted has
its new colour, what was added can be asked for. After an edit that leaves a scene of which the
records know no names (something new, or another colour), only what the dialogue itself settles is
asked, and what does not depend on the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from unifiedmllm_ros.tabletop.dialogue_state import Focus, State, recoloured, replaced, without
from unifiedmllm_ros.tabletop.followup_phrasings import FOLLOW_UPS
from unifiedmllm_ros.tabletop.followups import Followed, follow_up
from unifiedmllm_ros.tabletop.lexicon import Lexicon, default_lexicon
from unifiedmllm_ros.tabletop.questions import (
    LOOKING,
    MADE_OF_WORDS,
    Question,
    judged_by,
    questions,
)
from unifiedmllm_ros.tabletop.record import SceneRecord
from unifiedmllm_ros.tabletop.referring import View, left_to_right
from unifiedmllm_ros.tabletop.wording import typed

FOLLOW_UP = 'followup'
"""The kind of a question that refers back."""
FOLLOW_UP_SHARE, OTHER_SHARE = 0.75, 0.5
"""How often a turn refers back where the one before named a thing, and where it did not."""
ANYWHERE = (*MADE_OF_WORDS, 'layout', 'chat', 'refusal')
"""Kinds that do not depend on what the picture shows."""
OPENINGS = (*LOOKING, 'track', 'remove', 'replace', 'recolour', 'add', *LOOKING, *ANYWHERE)
"""Kinds that begin a dialogue, and go on with it where nothing refers back."""


def dialogue(
    scene: SceneRecord,
    rng: Random,
    phrasings: str = 'train',
    turns: int = 3,
    lexicon: Lexicon | None = None,
    kinds: Sequence[str] = OPENINGS,
) -> list[Question]:
    """A dialogue of `turns` questions with the answers that are right at that point of it.

    `kinds` are those of the questions that stand for themselves, some more often than others.
    A turn mostly refers back where the one before offers something to refer to.
    Raises QuestionError for an unknown split.
    """
    lexicon = lexicon or default_lexicon()
    state = State(View(scene, lexicon))
    said: list[Question] = []
    while len(said) < turns:
        named = state.focus is not None or (state.last is not None and state.last.kind == 'remove')
        share = FOLLOW_UP_SHARE if named else OTHER_SHARE
        followed = follow_up(state, rng, phrasings) if rng.random() < share else None
        if followed is not None:
            question = _worded(followed, rng, phrasings)
            state = replace(followed.after, last=question)
        else:
            question = _fresh(state, rng, phrasings, kinds)
            state = _after(state, question)
        said.append(question)
    return said


def _fresh(state: State, rng: Random, split: str, kinds: Sequence[str]) -> Question:
    """A question that stands for itself."""
    kinds = [k for k in kinds if k in ANYWHERE] or ANYWHERE if state.edited else kinds
    for _ in range(10):
        kind = rng.choice(kinds)
        found = questions(state.view.scene, rng, split, [kind], 1, state.view.lexicon)
        if found:
            return found[0]
    return questions(state.view.scene, rng, split, ['chat'], 1, state.view.lexicon)[0]


def _after(state: State, question: Question) -> State:
    """The state after a question that stands for itself."""
    known = {seen.index: seen for seen in state.view.seen}
    seen = tuple(known[index] for index in question.targets)
    regions = question.answer.regions
    state = replace(state, focus=None, last=question, colour='')
    if question.kind == 'caption' or question.task == 'layout' or len(regions) != 1:
        return state
    focus = Focus(regions[0].phrase, regions[0].boxes, seen)
    if question.kind == 'add':
        focus = replace(focus, kind=regions[0].phrase, new=True)
        return replace(state, focus=focus, edited=True)
    if len(seen) == 1:
        entry = seen[0].entry
        focus = replace(focus, phrase=entry.short, kind=entry.kind, colour=entry.colour)
    state = replace(state, focus=focus)
    if question.kind == 'remove':
        return without(state, seen)
    argument = question.answer.calls[0].argument if question.answer.calls else ''
    if question.kind == 'replace':
        return replaced(state, argument.rpartition(' with ')[2])
    if question.kind == 'recolour':
        return recoloured(state, argument.rpartition(' ')[2])
    return state


def _worded(followed: Followed, rng: Random, split: str) -> Question:
    template = rng.choice(FOLLOW_UPS[followed.bank].of(split))
    return Question(
        kind=FOLLOW_UP,
        text=typed(template.format(**followed.slots), rng, followed.exact),
        answer=followed.answer,
        targets=tuple(s.index for s in left_to_right(followed.targets)),
        task=followed.task,
        relation=followed.bank,
        needed=True,
        template=template,
        judged=judged_by(followed.answer, followed.task),
    )
