"""One question from its picture to its answer, read while the model writes it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.answer import Answer, OnText, Request
from unifiedmllm_ros.cancellation import as_cancel, check
from unifiedmllm_ros.errors import UnifiedMLLMError
from unifiedmllm_ros.execution import Execution
from unifiedmllm_ros.instruction import clean_instruction
from unifiedmllm_ros.model.protocol import (
    Conversation,
    Features,
    ModelInfo,
    MultimodalModel,
    Question,
    stream_all,
)
from unifiedmllm_ros.representation import IncrementalParser, Part, Problem, Response
from unifiedmllm_ros.router import Router


@dataclass(frozen=True, eq=False)
class Seen:
    """An image with what the model keeps of it, and the ms that took."""

    image: NDArray[np.uint8]
    features: Features
    encode_ms: float


class Talk:
    """A question that is being answered."""

    def __init__(self, place: int, request: Request, seen: Seen) -> None:
        self.place, self.seen = place, seen
        self.text = clean_instruction(request.instruction)
        self.cancel = as_cancel(request.cancel)
        self.reading = Reading(request.on_text or _silent)
        self._request = request
        check(self.cancel, 'the question')

    @property
    def question(self) -> Question:
        """What the model is asked."""
        session = self._request.session
        turns = tuple(self._request.history) or (session.turns if session else ())
        return Question(self.seen.features, Conversation(self.text, turns), self.cancel)

    def answer(self, router: Router | None, model: ModelInfo, decode_ms: float) -> Answer:
        """Read what was written, and carry out what it calls for."""
        request, session = self._request, self._request.session
        response, problems = self.reading.close()
        stages = {'encode': self.seen.encode_ms, 'decode': decode_ms, 'experts': 0.0}
        image = self.seen.image
        work = Execution(router, image, session, request.seed, request.on_progress, self.cancel)
        with _timed(stages, 'experts'):
            if request.execute:
                work.carry_out(response, request.mask_all)
        answer = Answer(
            self.text,
            ''.join(self.reading.raw),
            response,
            problems,
            work.masks,
            tuple(work.results),
            tuple(work.failures),
            stages,
            model,
            tuple(work.calls),
            work.made,
        )
        if session is not None:
            session.end_turn(answer.turn, response.regions)
        return answer


def listen(
    model: MultimodalModel, talks: Sequence[Talk]
) -> Iterator[tuple[Talk, UnifiedMLLMError | None]]:
    """Read answers while they are written; gives each at its end, with the error that ended it."""
    left = dict(enumerate(talks))
    try:
        for piece in stream_all(model, [talk.question for talk in talks]):
            if piece.chunk is not None:
                left[piece.place].reading.take(piece.chunk.text, piece.chunk.confidence)
            else:
                yield left.pop(piece.place), piece.error
    except UnifiedMLLMError as error:
        for talk in left.values():
            yield talk, error


class Reading:
    """Reads an answer while it is written and passes its prose on."""

    def __init__(self, on_text: OnText) -> None:
        self.raw: list[str] = []
        self._parser = IncrementalParser()
        self._on_text = on_text
        self._said = 0

    def take(self, text: str, confidence: float | None) -> None:
        """Read the next piece of the answer."""
        self.raw.append(text)
        self._say(_prose(self._parser.feed(text, confidence)))

    def close(self) -> tuple[Response, tuple[Problem, ...]]:
        """Return the whole answer, and what was wrong with it."""
        response, problems = self._parser.close()
        self._say(response.text[self._said :])
        return response, problems

    def _say(self, prose: str) -> None:
        if prose:
            self._said += len(prose)
            self._on_text(prose)


@contextmanager
def _timed(stages: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    stages[stage] = (time.perf_counter() - start) * 1000


def _prose(parts: tuple[Part, ...]) -> str:
    return ''.join(part for part in parts if isinstance(part, str))


def _silent(text: str) -> None:
    """The `OnText` of a caller that does not listen."""
