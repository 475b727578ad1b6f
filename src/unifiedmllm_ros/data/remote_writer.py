"""Writes dialogues with a language model behind an OpenAI-compatible API.

The model gets the names and boxes of what is in the picture, never the picture itself, and writes
questions and answers in the unified representation. Nothing that it writes is believed: the builder
checks every box and every answer.
"""

from __future__ import annotations

import threading
import time
from random import Random
from typing import Any

from unifiedmllm_ros.cancellation import Cancel, check
from unifiedmllm_ros.data.grounding import GroundedImage
from unifiedmllm_ros.data.writer import Exchange, Written
from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.model.adapters.loose_json import scan
from unifiedmllm_ros.representation import TASKS, Region, format_region
from unifiedmllm_ros.runtime.remote.client import Client
from unifiedmllm_ros.runtime.remote.description import RemoteDescription

MAX_TOKENS = 2000
_TICK = 0.02
_BACK = (
    'it and them, for what the turn before named',
    'the other one',
    'what was just added',
    'the same for another thing ("what about the plate?")',
    '"now make it blue"',
)
_SYSTEM = """You write dialogues between a user and a vision assistant about one picture.
The assistant answers in this notation, and nothing else than it:
- prose, plain text;
- a place: <p>name</p><box>[x1, y1, x2, y2]</box>, several boxes after one name for several things;
- a task: <task>argument<p>name</p><box>[...]</box></task>. Tasks:
{tasks}
Rules. Use only names and boxes of the list that you are given, every number as it is there. Never
invent a box, except inside layout, and for a thing that regedit adds ("add a lamp left of the
dog"): put it beside, not upon, what is there. Prose is short. The user never writes markers. The
user speaks as people do, sometimes clumsily. Later turns refer back to earlier ones. After
something was removed it is not there any more.
Answer with one JSON object: {{"turns": [{{"user": "...", "assistant": "..."}}, ...]}}"""


class Pace:
    """Lets pass at most so many a minute, evenly; 0 means no limit."""

    def __init__(self, per_minute: float) -> None:
        self._gap = 60 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, cancel: Cancel) -> None:
        """Wait for one's turn. Raises Cancelled within 20 ms of a cancel."""
        with self._lock:
            turn = max(time.monotonic(), self._next)
            self._next = turn + self._gap
        while (left := turn - time.monotonic()) > 0:
            check(cancel, 'the dialogue')
            time.sleep(min(_TICK, left))


class RemoteWriter:
    """Asks a server for each dialogue.

    per_minute: most requests a minute (0: no limit); concurrency, retries and time limits are
    those of the description.
    """

    attempts = 2

    def __init__(self, description: RemoteDescription, per_minute: float = 0.0) -> None:
        self.client = Client(description)
        self.threads = description.concurrency
        self._description = description
        self._pace = Pace(per_minute)
        self._model = description.model
        self.name = self._model or 'the only model'

    def check(self, cancel: Cancel) -> str:
        """The name of the model that will write. Raises RemoteError, ConfigError."""
        served = self.client.models(cancel)
        if self._model and self._model not in served:
            names = ', '.join(served) or 'nothing'
            raise ConfigError(f'{self._description.url} has no model {self._model!r}: only {names}')
        if not self._model and len(served) != 1:
            names = ', '.join(served) or 'nothing'
            raise ConfigError(f'{self._description.url} serves {names}: name one as model')
        self._model = self.name = self._model or served[0]
        return self._model

    def write(
        self, image: GroundedImage, rng: Random, turns: int, split: str, cancel: Cancel
    ) -> Written:
        """Ask for one dialogue. Raises RemoteError, ConfigError, Cancelled."""
        self._pace.wait(cancel)
        usage: dict[str, Any] = {}
        request = {
            'model': self._model,
            'messages': messages(image, rng, turns),
            'max_tokens': MAX_TOKENS,
            'temperature': self._description.temperature,
            'stream_options': {'include_usage': True},
            **self._description.extra,
        }
        deltas = list(self.client.complete(request, cancel, usage.update))
        text = ''.join(delta.text for delta in deltas)
        cut = bool(deltas) and deltas[-1].finish == 'length'
        exchanges, reason = read_turns(text)
        return Written(
            exchanges,
            'cut off at max_tokens' if cut and reason else reason,
            _count(usage, 'prompt_tokens'),
            _count(usage, 'completion_tokens'),
        )


def messages(image: GroundedImage, rng: Random, turns: int) -> list[dict[str, str]]:
    """The request for a dialogue; which tasks and back-references it asks for is drawn."""
    tasks = '\n'.join(f'  {spec.name}: {spec.description}' for spec in TASKS.values())
    listed = '\n'.join(format_region(Region(t.phrase, (t.canonical,))) for t in image.things)
    wanted = rng.sample(sorted(TASKS), min(turns, 3))
    user = (
        f'In the picture:\n{listed or "nothing that is known"}\n\n'
        f'Write {turns} turns. Use the tasks {", ".join(wanted)}, and at least once a plain place '
        f'without a task. Refer back at least once by {rng.choice(_BACK)}.'
    )
    system = _SYSTEM.format(tasks=tasks)
    return [{'role': 'system', 'content': system}, {'role': 'user', 'content': user}]


def read_turns(text: str) -> tuple[tuple[Exchange, ...], str]:
    """The exchanges of an answer, and the reason where there are none."""
    for found in scan(text):
        turns = found.value.get('turns') if isinstance(found.value, dict) else found.value
        if not isinstance(turns, list) or not turns:
            continue
        if not found.complete:
            return (), 'JSON ends early'
        if not all(isinstance(turn, dict) for turn in turns):
            return (), 'turns are no objects'
        pairs = [(turn.get('user'), turn.get('assistant')) for turn in turns]
        if not all(isinstance(side, str) for pair in pairs for side in pair):
            return (), 'a turn lacks user or assistant'
        return tuple((' '.join(str(a).split()), str(b).strip()) for a, b in pairs), ''
    return (), 'no JSON'


def _count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name, 0)
    return int(value) if isinstance(value, int | float) and value >= 0 else 0
