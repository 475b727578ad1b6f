"""Where a dialogue about a scene stands: what "it" means, and what is still as the record says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unifiedmllm_ros.representation import Box
from unifiedmllm_ros.tabletop.referring import Seen, View

if TYPE_CHECKING:
    from unifiedmllm_ros.tabletop.questions import Question


@dataclass(frozen=True)
class Focus:
    """What "it" or "them" means: boxes under a phrase. `seen` are the objects of the scene that
    they are, none for a thing that was added; `kind` and `colour` are those of a single one."""

    phrase: str
    boxes: tuple[Box, ...]
    seen: tuple[Seen, ...] = ()
    kind: str = ''
    colour: str = ''
    new: bool = False


@dataclass(frozen=True)
class State:
    """Where a dialogue stands. `view` holds what is still as the record says, `removed` what was
    taken away, `touched` the kinds of what was painted or replaced; `edited`: the picture holds
    something no record knows."""

    view: View
    focus: Focus | None = None
    last: Question | None = None
    colour: str = ''
    removed: tuple[Seen, ...] = ()
    touched: frozenset[str] = frozenset()
    edited: bool = False


def without(state: State, gone: tuple[Seen, ...]) -> State:
    """After `gone` was taken away; nothing is in focus."""
    return replace(_less(state, gone), removed=state.removed + gone, focus=None)


def _less(state: State, gone: tuple[Seen, ...]) -> State:
    """The state in which the records say nothing of `gone` any more."""
    scene = state.view.scene
    left = tuple(o for o in scene.objects if o.index not in {s.index for s in gone})
    return replace(state, view=View(replace(scene, objects=left), state.view.lexicon))


def _touched(state: State) -> State:
    """What is in focus is not what the records say any more."""
    assert state.focus
    touched = state.touched | {seen.entry.kind for seen in state.focus.seen}
    return replace(_less(state, state.focus.seen), touched=touched, edited=True)


def replaced(state: State, new: str) -> State:
    """After what is in focus gave way to `new` (with its article), which is in focus now."""
    assert state.focus
    name = new.partition(' ')[2]
    focus = Focus(name, state.focus.boxes, kind=name, new=True)
    return replace(_touched(state), focus=focus)


def recoloured(state: State, colour: str) -> State:
    """After what is in focus was painted."""
    assert state.focus
    old, kind = state.focus.colour, state.focus.kind
    # Where the short name holds the colour, it is called by the new one from now on.
    renamed = state.focus.phrase in (f'{old} {kind}', kind)
    phrase = f'{colour} {kind}' if renamed else state.focus.phrase
    focus = replace(state.focus, phrase=phrase, colour=colour)
    return replace(_touched(state), focus=focus, colour=colour)
