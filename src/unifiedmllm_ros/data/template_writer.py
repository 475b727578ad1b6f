"""Writes dialogues from templates, with no network: those of the simulated table.

Of a rendered table everything is known, and every kind of question is asked. Of any other picture
only what was found is known: things are asked for by their names where exactly one has it, and
nothing is said about what is not there, how many there are, or how far away something is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from unifiedmllm_ros.cancellation import Cancel
from unifiedmllm_ros.data.grounding import GroundedImage, Thing
from unifiedmllm_ros.data.writer import Written
from unifiedmllm_ros.tabletop.dialogues import ANYWHERE, FOLLOW_UP, dialogue
from unifiedmllm_ros.tabletop.lexicon import GENERIC, Lexicon
from unifiedmllm_ros.tabletop.questions import Question
from unifiedmllm_ros.tabletop.record import ObjectRecord, SceneRecord

ATTEMPTS = 40
_SIDE = 1000
_KINDS = ('name', 'order', 'relation', 'track', 'remove', 'replace', 'recolour', 'add', *ANYWHERE)
_DEPTHLESS = frozenset({'left of', 'right of', 'leftmost', 'rightmost', ''})
_UNKNOWN = frozenset({'other', 'still', 'count_left'})
"""Follow-ups that need to know of everything in the picture."""
_PLAIN = re.compile(r"[a-z][a-z0-9' -]*")


@dataclass(frozen=True)
class _Named:
    """A thing's name as a catalogue entry."""

    name: str
    kind: str
    colour: str = ''
    synonyms: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    held_out: bool = False


class TemplateWriter:
    """Writes with our own wordings; those held out for testing for pictures of the test split."""

    name = 'template'
    attempts = 1
    threads = 1

    def write(
        self, image: GroundedImage, rng: Random, turns: int, split: str, cancel: Cancel
    ) -> Written:
        """One dialogue of `turns` questions; nothing is asked of a server."""
        talk = compose(image, rng, turns, 'test' if split == 'test' else 'train')
        if talk is None:
            return Written(reason='nothing can be asked about the picture')
        return Written(tuple((question.text, question.answer_text) for question in talk))


def compose(image: GroundedImage, rng: Random, turns: int, phrasings: str) -> list[Question] | None:
    """The questions of a dialogue, None where the picture offers none."""
    if image.scene is not None:
        return dialogue(image.scene, rng, phrasings, turns)
    things = [t for t in image.things if _PLAIN.fullmatch(t.phrase.lower())]
    if not things:
        return None
    scene, lexicon = _as_scene(image.image, things)
    for _ in range(ATTEMPTS):
        talk = dialogue(scene, rng, phrasings, turns, lexicon, _KINDS)
        if all(_supported(question) for question in talk):
            return talk
    return None


def _supported(question: Question) -> bool:
    """Whether boxes alone are enough to answer it."""
    if question.kind == FOLLOW_UP:
        return question.relation not in _UNKNOWN
    if question.targets:
        # "The leftmost thing" might be one that was not found, and so might be one of "all things".
        phrase = question.answer.regions[0].phrase
        if phrase in GENERIC or phrase not in question.text.lower():
            return False
    if question.kind in ('layout', 'add'):
        return True
    return question.kind != 'absent' and question.relation in _DEPTHLESS


def _as_scene(image: str, things: list[Thing]) -> tuple[SceneRecord, Lexicon]:
    """Boxes as a scene: names are kinds of their own, all at one depth and of one size."""
    objects = tuple(
        ObjectRecord(
            index=index,
            name=thing.phrase.lower(),
            box=thing.box,
            area=round(_area(thing) * _SIDE * _SIDE),
            visible=1.0,
            position=(0.0, 0.0, 0.0),
            position_camera=(0.0, 0.0, 1.0),
            size=(0.1, 0.1, 0.1),
        )
        for index, thing in enumerate(things)
    )
    lexicon = Lexicon({o.name: _Named(o.name, o.name) for o in objects})
    return SceneRecord(image, 'train', 0, image, '', _SIDE, _SIDE, {}, objects), lexicon


def _area(thing: Thing) -> float:
    x1, y1, x2, y2 = thing.box
    return (x2 - x1) * (y2 - y1)
