"""What is asked of a perceiver, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.cancellation import Cancel, EventLike
from unifiedmllm_ros.errors import UnifiedMLLMError
from unifiedmllm_ros.experts.base import OnProgress, Result, unheard
from unifiedmllm_ros.masks import Mask
from unifiedmllm_ros.model.protocol import ModelInfo, Turn
from unifiedmllm_ros.representation import Problem, Response, TaskCall
from unifiedmllm_ros.session import Session

OnText = Callable[[str], None]


@dataclass(frozen=True)
class Failure:
    """A task call that could not be carried out, and why."""

    call: TaskCall
    error: UnifiedMLLMError


@dataclass(frozen=True, eq=False)
class Answer:
    """What came of one question.

    instruction: the question as the model got it.
    text: the answer as the model wrote it, in the unified representation.
    response, problems: the same, read; problems is empty for a grammatical answer.
    masks: one for each box that was segmented, in the order of the boxes in the response.
    results, failures: what the experts gave, and the calls that failed.
    calls: the calls that gave `results`, in the same order.
    image: the picture that the calls made of the one asked about, None where they made none.
    stages: wall time in ms: encode (of the image, once for all its questions), decode, experts.
    """

    instruction: str
    text: str
    response: Response
    problems: tuple[Problem, ...]
    masks: tuple[Mask, ...]
    results: tuple[Result, ...]
    failures: tuple[Failure, ...]
    stages: dict[str, float]
    model: ModelInfo
    calls: tuple[TaskCall, ...] = ()
    image: NDArray[np.uint8] | None = None

    @property
    def turn(self) -> Turn:
        """This answer as history of the next question."""
        return Turn(self.instruction, self.text)


@dataclass(frozen=True, eq=False)
class Request:
    """One of several questions that are asked together; see Perceiver.ask for the fields.

    image: what it is about; None for the image that was set, or the session's. Requests with the
    same array share what is computed of it.
    """

    instruction: str
    image: NDArray[np.uint8] | None = None
    history: Sequence[Turn] = ()
    session: Session | None = None
    on_text: OnText | None = None
    on_progress: OnProgress = unheard
    cancel: Cancel | EventLike | None = None
    execute: bool = True
    mask_all: bool = False
    seed: int = 0
