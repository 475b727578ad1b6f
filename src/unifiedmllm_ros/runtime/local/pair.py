"""A language model that reads an instruction once, and a detector that follows it.

For standing instructions: the slow model answers the first frame, the phrases it names are what
the detector looks for in every frame from then on, and what is to be done with them stays the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from unifiedmllm_ros.cancellation import Cancel, never
from unifiedmllm_ros.model.protocol import (
    Conversation,
    Features,
    ModelInfo,
    MultimodalModel,
    TextChunk,
)
from unifiedmllm_ros.representation import Region, Response, TaskCall, parse
from unifiedmllm_ros.runtime.local.detector import DetectorModel, Looked, chunks
from unifiedmllm_ros.runtime.local.family import Picture

_log = logging.getLogger(__name__)
_KEPT = 16


@dataclass(eq=False)
class _Frame:
    image: Picture
    slow: Features | None = None
    fast: Looked | None = None


@dataclass(frozen=True)
class _Plan:
    """What an instruction comes to: phrases, and the task that is done with them ('' for none)."""

    phrases: tuple[str, ...]
    task: str
    argument: str
    made: float


class PairModel:
    """Asks the slow model about a new instruction and the fast one about all later frames.

    A conversation with history always goes to the slow model, as does an instruction whose answer
    names nothing to look for. `info` names the model of the latest answer. `replanned` is how
    often the slow model was asked.
    """

    def __init__(
        self,
        slow: MultimodalModel,
        fast: DetectorModel,
        refresh: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take both; refresh: seconds after which an instruction is read anew, 0 for never."""
        self.replanned = 0
        self._slow = slow
        self._fast = fast
        self._refresh = refresh
        self._clock = clock
        self._plans: dict[str, _Plan] = {}
        self._fast_answered = False

    @property
    def max_tokens(self) -> int:
        """Longest answer of the slow model, in its tokens."""
        return self._slow.max_tokens

    @max_tokens.setter
    def max_tokens(self, value: int) -> None:
        self._slow.max_tokens = value

    @property
    def info(self) -> ModelInfo:
        """What gave the latest answer."""
        if not self._fast_answered:
            return self._slow.info
        info = self._fast.info
        return replace(info, name=f'{info.name} (following {self._slow.info.name})')

    def encode(self, image: Picture) -> _Frame:
        """Keep the image; each model looks at it when it is asked."""
        return _Frame(image)

    def stream(
        self, features: _Frame, conversation: Conversation, cancel: Cancel = never
    ) -> Iterator[TextChunk]:
        """Answer; see MultimodalModel.stream."""
        plan = None if conversation.history else self._plan(conversation.question)
        self._fast_answered = plan is not None
        if plan is None:
            yield from self._ask(features, conversation, cancel)
            return
        if features.fast is None:
            features.fast = self._fast.encode(features.image)
        found = self._fast.detect(
            features.fast, conversation.question, phrases=plan.phrases, cancel=cancel
        )
        yield from chunks(_as_planned(found, plan))

    def _plan(self, question: str) -> _Plan | None:
        plan = self._plans.get(question)
        if plan is None or (self._refresh and self._clock() - plan.made >= self._refresh):
            return None
        return plan

    def _ask(
        self, frame: _Frame, conversation: Conversation, cancel: Cancel
    ) -> Iterator[TextChunk]:
        if frame.slow is None:
            frame.slow = self._slow.encode(frame.image)
        pieces: list[str] = []
        for chunk in self._slow.stream(frame.slow, conversation, cancel):
            pieces.append(chunk.text)
            yield chunk
        self.replanned += 1
        if not conversation.history:
            self._learn(conversation.question, parse(''.join(pieces))[0])

    def _learn(self, question: str, response: Response) -> None:
        phrases = tuple(dict.fromkeys(r.phrase for r in response.regions if r.phrase.strip()))
        others = [call for call in response.calls if call.task != 'seg']
        self._plans.pop(question, None)
        # What is to be done once, such as an edit, is not repeated for every frame.
        if not phrases or others:
            _log.info('nothing to follow in the answer to %r', question)
            return
        call = next(iter(response.calls), None)
        task, argument = (call.task, call.argument) if call else ('', '')
        self._plans[question] = _Plan(phrases, task, argument, self._clock())
        while len(self._plans) > _KEPT:
            del self._plans[next(iter(self._plans))]


def _as_planned(found: Response, plan: _Plan) -> Response:
    regions = found.regions
    if not plan.task or not regions:
        return Response(tuple(regions)) if regions else found
    return Response((TaskCall(plan.task, plan.argument, tuple(_whole(regions))),))


def _whole(regions: tuple[Region, ...]) -> Iterator[Region]:
    yield from (region for region in regions if region.boxes)
