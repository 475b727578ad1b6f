"""Requests whose argument is the user's own words: pictures, videos, sounds, edits of the whole."""

from __future__ import annotations

from random import Random

from unifiedmllm_ros.representation import Response, TaskCall
from unifiedmllm_ros.tabletop.asked import Asked, Proposer
from unifiedmllm_ros.tabletop.referring import View
from unifiedmllm_ros.tabletop.task_words import composed


def maker(task: str) -> Proposer:
    """The proposer of a task that depends on nothing in the picture."""
    slot = 'e' if task in ('edit', 'videdit') else 'p'

    def make(view: View, rng: Random, split: str) -> Asked | None:
        words = composed(task, rng, split)
        return Asked(task, {slot: words}, task=task, answer=Response((TaskCall(task, words),)))

    return make
