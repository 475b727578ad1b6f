"""Questions about frames, from pixels to messages; runs in the worker's thread.

Knows messages but no node: nothing is published and no clock is read here but the stopwatch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from unifiedmllm_ros.bridge.answer import AnswerMessages, answer_messages
from unifiedmllm_ros.bridge.image import ImageLimits
from unifiedmllm_ros.cancellation import Cancel
from unifiedmllm_ros.errors import UnifiedMLLMError
from unifiedmllm_ros.nodes.configuration import PerceptionParameters
from unifiedmllm_ros.nodes.forwarding import split_forwarded
from unifiedmllm_ros.nodes.frame import Frame
from unifiedmllm_ros.perception import Answer, Perceiver, Request
from unifiedmllm_ros.representation import TaskCall

WORK_STAGES = ('encode', 'decode', 'experts')
"""Stages of the model and the experts; all others are the node's own overhead."""


@dataclass(frozen=True, eq=False)
class Inquiry:
    """A question that was answered; `forwarded` are the calls that an expert node is to do."""

    frame: Frame
    rgb: np.ndarray
    answer: Answer
    messages: AnswerMessages
    stages: dict[str, float]
    forwarded: tuple[TaskCall, ...] = ()


@dataclass(frozen=True, eq=False)
class Posed:
    """A question about a frame, not answered yet."""

    frame: Frame
    instruction: str
    cancel: Cancel
    on_text: Callable[[str], None] | None = None
    execute: bool = True


class Inquirer:
    """Owns the perceiver, and remembers which frame it looked at last.

    Only the worker's thread may use it.
    """

    def __init__(self, perceiver: Perceiver) -> None:
        self.perceiver = perceiver
        self._frame: Frame | None = None
        self._rgb = np.zeros((0, 0, 3), np.uint8)

    def ask_all(
        self, posed: Sequence[Posed], settings: PerceptionParameters
    ) -> Iterator[tuple[int, Inquiry | UnifiedMLLMError]]:
        """Ask questions together; gives each inquiry by its place, or why there is none.

        A frame is looked at once for any number of questions, also of later calls in a row.
        """
        self.perceiver.model.max_tokens = settings.max_tokens
        if len({id(one.frame) for one in posed}) == 1:
            sights = [self._look_at(posed[0].frame, settings)] * len(posed)
        else:
            sights = self._sights(posed, settings)
        places, requests = [], []
        for place, (one, sight) in enumerate(zip(posed, sights, strict=True)):
            if isinstance(sight, UnifiedMLLMError):
                yield place, sight
            else:
                places.append(place)
                requests.append(_request(one, sight, settings))
        for number, answer in self.perceiver.ask_all(requests):
            place = places[number]
            if isinstance(answer, Answer):
                sight = sights[place]
                assert isinstance(sight, _Sight)
                yield place, self._inquiry(posed[place].frame, sight, answer, settings)
            else:
                yield place, answer

    def close(self) -> None:
        """Give back the frame, the model's memory of it and the experts."""
        self._forget()
        self.perceiver.close()

    def _look_at(self, frame: Frame, settings: PerceptionParameters) -> _Sight | UnifiedMLLMError:
        """Make `frame` the perceiver's image."""
        if frame is self._frame:
            return _Sight(self._rgb)
        self._forget()
        started = time.perf_counter()
        try:
            self._rgb = frame.rgb(ImageLimits(max_pixels=settings.max_image_pixels))
            decoded = time.perf_counter()
            self.perceiver.set_image(self._rgb)
        except UnifiedMLLMError as error:
            return error
        self._frame = frame
        return _Sight(self._rgb, (decoded - started) * 1000, _since(decoded))

    def _sights(
        self, posed: Sequence[Posed], settings: PerceptionParameters
    ) -> list[_Sight | UnifiedMLLMError]:
        """Decode several frames; the perceiver looks at them together, with the questions."""
        found: dict[int, _Sight | UnifiedMLLMError] = {}
        for frame in {id(one.frame): one.frame for one in posed}.values():
            started = time.perf_counter()
            try:
                if frame is self._frame:
                    found[id(frame)] = _Sight(self._rgb)
                else:
                    rgb = frame.rgb(ImageLimits(max_pixels=settings.max_image_pixels))
                    found[id(frame)] = _Sight(rgb, _since(started), None)
            except UnifiedMLLMError as error:
                found[id(frame)] = error
        return [found[id(one.frame)] for one in posed]

    def _inquiry(
        self, frame: Frame, sight: _Sight, answer: Answer, settings: PerceptionParameters
    ) -> Inquiry:
        stages = {'decode_image': sight.decode_ms, **answer.stages}
        if sight.encode_ms is not None:
            stages['encode'] = sight.encode_ms
        started = time.perf_counter()
        answer, forwarded = split_forwarded(answer)
        height, width = sight.rgb.shape[:2]
        messages = answer_messages(
            answer, (width, height), frame.header, settings.min_confidence, stages
        )
        stages['messages'] = _since(started)
        return Inquiry(frame, sight.rgb, answer, messages, stages, forwarded)

    def _forget(self) -> None:
        self._frame = None
        self._rgb = np.zeros((0, 0, 3), np.uint8)


@dataclass(frozen=True, eq=False)
class _Sight:
    """A frame's pixels, and the ms of decoding and encoding it: 0 where it had been looked at.

    encode_ms: None where the perceiver looks at it with the question.
    """

    rgb: np.ndarray
    decode_ms: float = 0.0
    encode_ms: float | None = 0.0


def _request(posed: Posed, sight: _Sight, settings: PerceptionParameters) -> Request:
    return Request(
        posed.instruction,
        image=sight.rgb if sight.encode_ms is None else None,
        on_text=posed.on_text,
        cancel=posed.cancel,
        execute=posed.execute and settings.masks,
        mask_all=settings.mask_all,
    )


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
