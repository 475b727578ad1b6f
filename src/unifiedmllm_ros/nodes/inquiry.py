"""One question about one frame, from pixels to messages; runs in the worker's thread.

Knows messages but no node: nothing is published and no clock is read here but the stopwatch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from unifiedmllm_ros.bridge.answer import AnswerMessages, answer_messages
from unifiedmllm_ros.bridge.image import ImageLimits
from unifiedmllm_ros.cancellation import Cancel
from unifiedmllm_ros.nodes.configuration import PerceptionParameters
from unifiedmllm_ros.nodes.forwarding import split_forwarded
from unifiedmllm_ros.nodes.frame import Frame
from unifiedmllm_ros.perception import Answer, Perceiver
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


class Inquirer:
    """Owns the perceiver, and remembers which frame it looked at last.

    Only the worker's thread may use it.
    """

    def __init__(self, perceiver: Perceiver) -> None:
        self.perceiver = perceiver
        self._frame: Frame | None = None
        self._rgb = np.zeros((0, 0, 3), np.uint8)

    def ask(
        self,
        frame: Frame,
        instruction: str,
        settings: PerceptionParameters,
        cancel: Cancel,
        on_text: Callable[[str], None] | None = None,
        execute: bool = True,
    ) -> Inquiry:
        """Ask about a frame; the frame is looked at once for any number of questions in a row.

        Raises:
            UnifiedMLLMError: the image, the instruction, the model, or the cancel.
        """
        started = time.perf_counter()
        decode_ms, encode_ms = self._look_at(frame, settings)
        self.perceiver.model.max_tokens = settings.max_tokens
        answer = self.perceiver.ask(
            instruction,
            on_text=on_text,
            cancel=cancel,
            execute=execute and settings.masks,
            mask_all=settings.mask_all,
        )
        stages = {'decode_image': decode_ms, **answer.stages, 'encode': encode_ms}
        answer, forwarded = split_forwarded(answer)
        messages = self._messages(frame, answer, settings, stages)
        stages['messages'] = _since(started) - sum(stages.values())
        return Inquiry(frame, self._rgb, answer, messages, stages, forwarded)

    def close(self) -> None:
        """Give back the frame, the model's memory of it and the experts."""
        self._forget()
        self.perceiver.close()

    def _look_at(self, frame: Frame, settings: PerceptionParameters) -> tuple[float, float]:
        """Make `frame` the perceiver's image; return the ms of decoding and of encoding."""
        if frame is self._frame:
            return 0.0, 0.0
        self._forget()
        started = time.perf_counter()
        self._rgb = frame.rgb(ImageLimits(max_pixels=settings.max_image_pixels))
        decoded = time.perf_counter()
        self.perceiver.set_image(self._rgb)
        self._frame = frame
        return (decoded - started) * 1000, _since(decoded)

    def _messages(
        self,
        frame: Frame,
        answer: Answer,
        settings: PerceptionParameters,
        stages: dict[str, float],
    ) -> AnswerMessages:
        height, width = self._rgb.shape[:2]
        return answer_messages(
            answer, (width, height), frame.header, settings.min_confidence, stages
        )

    def _forget(self) -> None:
        self._frame = None
        self._rgb = np.zeros((0, 0, 3), np.uint8)


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
