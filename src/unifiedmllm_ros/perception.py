"""The perceiver: an image once, then any number of questions about it.

It knows no framework and no ROS: a `MultimodalModel` gives the text, the router's experts do what
the text calls for. One thread uses a perceiver at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.cancellation import Cancel, EventLike, as_cancel, check
from unifiedmllm_ros.errors import Cancelled, ImageError, NoImageError, UnifiedMLLMError
from unifiedmllm_ros.experts.base import OnProgress, Result, SegmentationResult, unheard
from unifiedmllm_ros.instruction import clean_instruction
from unifiedmllm_ros.masks import Mask
from unifiedmllm_ros.model.protocol import (
    Conversation,
    Features,
    ModelInfo,
    MultimodalModel,
    Turn,
)
from unifiedmllm_ros.representation import IncrementalParser, Part, Problem, Response, TaskCall
from unifiedmllm_ros.router import Router

MIN_SIDE = 2
MAX_PIXELS = 100_000_000

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

    @property
    def turn(self) -> Turn:
        """This answer as history of the next question."""
        return Turn(self.instruction, self.text)


@dataclass(frozen=True, eq=False)
class _Seen:
    image: NDArray[np.uint8]
    features: Features
    encode_ms: float


class Perceiver:
    """Answers questions about an image: text, boxes and, through the router, masks and more."""

    def __init__(self, model: MultimodalModel, router: Router | None = None) -> None:
        """Use a model, and a router for its task calls; without one they are not carried out."""
        self.model = model
        self.router = router
        self._seen: _Seen | None = None

    @classmethod
    def load(
        cls, model: str = 'tabletop-nano', *, experts: Path | None = None, threads: int = 2
    ) -> Perceiver:
        """Load a model and the router of its task calls.

        model: a name under models/, a folder, or a description of a remote model (a .yaml or .json
        path, or a file name in config/models/).
        experts: the experts' configuration, by default the package's own; each expert is loaded
        when it is first needed. threads: of the model. Raises ModelFileError and ConfigError.
        """
        from unifiedmllm_ros.runtime.loading import load_model

        return cls(load_model(model, threads=threads), Router.from_file(experts))

    def set_image(self, image: NDArray[np.uint8]) -> None:
        """Look at an image: (height, width, 3) uint8 RGB, from 2x2 up to 100 megapixels.

        The array is kept, not copied. Raises ImageError for anything else; then there is no image.
        """
        self._seen = None
        check_image(image)
        start = time.perf_counter()
        features = self.model.encode(image)
        self._seen = _Seen(image, features, (time.perf_counter() - start) * 1000)

    def ask(
        self,
        instruction: str,
        *,
        history: Sequence[Turn] = (),
        on_text: OnText | None = None,
        on_progress: OnProgress = unheard,
        cancel: Cancel | EventLike | None = None,
        execute: bool = True,
        mask_all: bool = False,
        seed: int = 0,
    ) -> Answer:
        """Ask one question about the image.

        history: earlier turns about it, oldest first.
        on_text: gets the prose of the answer piece by piece; together they are `response.text`.
        on_progress: hears of the experts' work.
        cancel: an event or a function; once it is set the work stops within one step.
        execute: carry out the answer's task calls. mask_all: give every region of the answer a
        mask, not only those of `seg` calls. seed: for the experts.

        Raises InstructionError, NoImageError, Cancelled, or what the model raises. A
        call that fails does not take the answer away: it is one of its failures.
        """
        question = clean_instruction(instruction)
        seen = self._image()
        stop = as_cancel(cancel)
        check(stop, 'the question')
        stages = {'encode': seen.encode_ms, 'decode': 0.0, 'experts': 0.0}
        reading = _Reading(on_text or _silent)
        with _timed(stages, 'decode'):
            conversation = Conversation(question, tuple(history))
            for chunk in self.model.stream(seen.features, conversation, stop):
                reading.take(chunk.text, chunk.confidence)
                check(stop, 'the question')
            response, problems = reading.close()
        work = _Work(self.router, seen.image, seed, on_progress, stop)
        with _timed(stages, 'experts'):
            if execute:
                work.segment(response, mask_all)
                work.run_others(response)
        return Answer(
            question,
            ''.join(reading.raw),
            response,
            problems,
            tuple(work.masks),
            tuple(work.results),
            tuple(work.failures),
            stages,
            self.model.info,
        )

    def close(self) -> None:
        """Forget the image and unload the experts."""
        self._seen = None
        if self.router is not None:
            self.router.close()

    def _image(self) -> _Seen:
        if self._seen is None:
            raise NoImageError('there is no image to ask about: call set_image() first')
        return self._seen


class _Reading:
    """Reads an answer while it is written and passes its prose on."""

    def __init__(self, on_text: OnText) -> None:
        self.raw: list[str] = []
        self._parser = IncrementalParser()
        self._on_text = on_text
        self._said = 0

    def take(self, text: str, confidence: float | None) -> None:
        self.raw.append(text)
        self._say(_prose(self._parser.feed(text, confidence)))

    def close(self) -> tuple[Response, tuple[Problem, ...]]:
        response, problems = self._parser.close()
        self._say(response.text[self._said :])
        return response, problems

    def _say(self, prose: str) -> None:
        if prose:
            self._said += len(prose)
            self._on_text(prose)


class _Work:
    """Carries out what a response calls for, and keeps what comes of it."""

    def __init__(
        self,
        router: Router | None,
        image: NDArray[np.uint8],
        seed: int,
        on_progress: OnProgress,
        cancel: Cancel,
    ) -> None:
        self.masks: list[Mask] = []
        self.results: list[Result] = []
        self.failures: list[Failure] = []
        self._router = router
        self._image = image
        self._seed = seed
        self._on_progress = on_progress
        self._cancel = cancel

    def segment(self, response: Response, mask_all: bool) -> None:
        """Segment all regions that want a mask in one run of the expert."""
        wanted = [call for call in response.calls if call.task == 'seg' and call.regions]
        regions = tuple(region for call in wanted for region in call.regions)
        note = ' '.join(call.argument for call in wanted if call.argument)
        if mask_all:
            regions = response.regions
        if regions:
            result = self._run(TaskCall('seg', note, regions))
            if isinstance(result, SegmentationResult):
                self.masks.extend(result.masks)

    def run_others(self, response: Response) -> None:
        """Run the other calls in order, and those that cannot run to say why."""
        for call in response.calls:
            if call.task != 'seg' or not call.regions:
                self._run(call)

    def _run(self, call: TaskCall) -> Result | None:
        if self._router is None:
            return None
        try:
            result = self._router.run(
                call,
                self._image,
                seed=self._seed,
                progress=self._on_progress,
                cancel=self._cancel,
            )
        except Cancelled:
            raise
        except UnifiedMLLMError as error:
            self.failures.append(Failure(call, error))
            return None
        self.results.append(result)
        return result


def check_image(image: NDArray[np.uint8]) -> None:
    """Raise ImageError unless this is (height, width, 3) uint8 of a size a perceiver takes."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f'image is {kind}, not uint8: convert it to 8-bit RGB')
    if image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(
            f'image has shape {image.shape}, not (height, width, 3): convert it to RGB'
        )
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise ImageError(f'image is {width}x{height} pixels, at least {MIN_SIDE}x{MIN_SIDE} needed')
    if height * width > MAX_PIXELS:
        raise ImageError(
            f'image is {width}x{height} pixels, at most {MAX_PIXELS // 10**6} megapixels: shrink it'
        )


@contextmanager
def _timed(stages: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    stages[stage] = (time.perf_counter() - start) * 1000


def _prose(parts: tuple[Part, ...]) -> str:
    return ''.join(part for part in parts if isinstance(part, str))


def _silent(text: str) -> None:
    """The `OnText` of a caller that does not listen."""
