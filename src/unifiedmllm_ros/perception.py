"""The perceiver: an image once, then any number of questions about it.

It knows no framework and no ROS: a `MultimodalModel` gives the text, the router's experts do what
the text calls for. One thread uses a perceiver at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.cancellation import Cancel, EventLike, as_cancel, check
from unifiedmllm_ros.errors import Cancelled, NoImageError, NotFiniteError, UnifiedMLLMError
from unifiedmllm_ros.experts.base import (
    OnProgress,
    Result,
    SegmentationResult,
    check_image,
    unheard,
)
from unifiedmllm_ros.instruction import clean_instruction
from unifiedmllm_ros.masks import Mask
from unifiedmllm_ros.model.protocol import (
    Conversation,
    Features,
    ModelInfo,
    MultimodalModel,
    Turn,
)
from unifiedmllm_ros.representation import (
    IncrementalParser,
    Part,
    Problem,
    Region,
    Response,
    TaskCall,
)
from unifiedmllm_ros.router import Router
from unifiedmllm_ros.session import Session

# Tasks that leave the picture as it is.
_KEEPS = ('seg', 'vidseg', 'audgen')

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
        self._made: _Seen | None = None

    @classmethod
    def load(
        cls,
        model: str = 'tabletop-nano',
        *,
        experts: Path | None = None,
        threads: int = 2,
        backend: str = 'auto',
        precision: str = 'auto',
    ) -> Perceiver:
        """Load a model and the router of its task calls.

        model: a name under models/, a folder, or a description of a remote model (a .yaml or .json
        path, or a file name in config/models/).
        experts: the experts' configuration, by default the package's own; each expert is loaded
        when it is first needed. threads: of the model. backend, precision: of a model of ours, see
        runtime.backends. Raises ModelFileError and ConfigError.
        """
        from unifiedmllm_ros.runtime.loading import load_model

        loaded = load_model(model, threads=threads, backend=backend, precision=precision)
        return cls(loaded, Router.from_file(experts))

    def set_image(self, image: NDArray[np.uint8]) -> None:
        """Look at an image: (height, width, 3) uint8 RGB, from 2x2 up to 100 megapixels.

        The array is kept, not copied. Raises ImageError for anything else; then there is no image.
        """
        self._seen = self._made = None
        check_image(image)
        self._seen = self._look(image)

    def ask(
        self,
        instruction: str,
        *,
        history: Sequence[Turn] = (),
        session: Session | None = None,
        on_text: OnText | None = None,
        on_progress: OnProgress = unheard,
        cancel: Cancel | EventLike | None = None,
        execute: bool = True,
        mask_all: bool = False,
        seed: int = 0,
    ) -> Answer:
        """Ask one question about the image.

        history: earlier turns about it, oldest first; by default those of the session.
        session: what was seen, said and made before. The question is about its current picture:
        the image that was set, or what earlier answers have made of it. It remembers this turn.
        on_text: gets the prose of the answer piece by piece; together they are `response.text`.
        on_progress: hears of the experts' work.
        cancel: an event or a function; once it is set the work stops within one step.
        execute: carry out the answer's task calls. mask_all: give every region of the answer a
        mask, not only those of `seg` calls. seed: for the experts.

        Raises InstructionError, NoImageError, Cancelled, or what the model raises. A
        call that fails does not take the answer away: it is one of its failures.
        """
        question = clean_instruction(instruction)
        seen = self._image(session)
        stop = as_cancel(cancel)
        check(stop, 'the question')
        stages = {'encode': seen.encode_ms, 'decode': 0.0, 'experts': 0.0}
        reading = _Reading(on_text or _silent)
        with _timed(stages, 'decode'), self._refusing(seen, question):
            turns = tuple(history) or (session.turns if session else ())
            conversation = Conversation(question, turns)
            for chunk in self.model.stream(seen.features, conversation, stop):
                reading.take(chunk.text, chunk.confidence)
                check(stop, 'the question')
            response, problems = reading.close()
        work = _Work(self.router, seen.image, session, seed, on_progress, stop)
        with _timed(stages, 'experts'):
            if execute:
                work.carry_out(response, mask_all)
        answer = Answer(
            question,
            ''.join(reading.raw),
            response,
            problems,
            work.masks,
            tuple(work.results),
            tuple(work.failures),
            stages,
            self.model.info,
            tuple(work.calls),
            work.made,
        )
        if session is not None:
            session.end_turn(answer.turn, response.regions)
        return answer

    def close(self) -> None:
        """Forget the image and unload the experts."""
        self._seen = self._made = None
        if self.router is not None:
            self.router.close()

    def _image(self, session: Session | None) -> _Seen:
        if session is not None:
            if self._seen is not None:
                session.see(self._seen.image)
            if session.image is not None and session.changed:
                return self._look_at_made(session.image)
        if self._seen is None:
            raise NoImageError('there is no image to ask about: call set_image() first')
        return self._seen

    def _look_at_made(self, image: NDArray[np.uint8]) -> _Seen:
        if self._made is None or self._made.image is not image:
            check_image(image)
            self._made = self._look(image)
        return self._made

    @contextmanager
    def _refusing(self, seen: _Seen, question: str) -> Iterator[None]:
        """Keep the frame of an answer that the model's numbers spoil."""
        try:
            yield
        except NotFiniteError as error:
            from unifiedmllm_ros.runtime.refused import save_refused

            info = self.model.info
            facts = {'question': question, 'error': str(error), 'model': info.name}
            facts |= {'backend': info.backend, 'precision': info.precision, 'device': info.device}
            raise NotFiniteError(f'{error}; {save_refused(seen.image, facts)}') from error

    def _look(self, image: NDArray[np.uint8]) -> _Seen:
        start = time.perf_counter()
        features = self.model.encode(image)
        return _Seen(image, features, (time.perf_counter() - start) * 1000)


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
        session: Session | None,
        seed: int,
        on_progress: OnProgress,
        cancel: Cancel,
    ) -> None:
        self.results: list[Result] = []
        self.calls: list[TaskCall] = []
        self.failures: list[Failure] = []
        self._masks: list[tuple[int, Mask]] = []
        self._router = router
        self._image = image
        self._session = session or Session()
        if session is None:
            self._session.see(image)
        self._seed = seed
        self._on_progress = on_progress
        self._cancel = cancel

    @property
    def masks(self) -> tuple[Mask, ...]:
        """The masks that lie in the image, in the order of their boxes in the response."""
        return tuple(mask for _, mask in sorted(self._masks, key=lambda one: one[0]))

    @property
    def made(self) -> NDArray[np.uint8] | None:
        """The current picture where it is not the one that was asked about."""
        image = self._session.image
        return None if image is self._image else image

    def carry_out(self, response: Response, mask_all: bool) -> None:
        """Run the calls in order; those that only segment the same picture, in one run.

        A `seg` after an edit sees the edited picture. mask_all: every region that belongs to no
        such call is segmented too, in the picture that was asked about.
        """
        before, after = _around_first_change(response.calls)
        late = {id(region) for call in after if _segments(call) for region in call.regions}
        places = _numbered(response.regions)
        if mask_all:
            wanted = tuple(r for r in response.regions if id(r) not in late)
        else:
            wanted = _regions_of(before)
        self._segment(_note(before), wanted, places)
        for call in before:
            if not _segments(call):
                self._run(call)
        self._run_in_turn(after, places)

    def _run_in_turn(self, calls: Sequence[TaskCall], places: Mapping[int, int]) -> None:
        for together, group in groupby(calls, key=_segments):
            waiting = tuple(group)
            if together:
                self._segment(_note(waiting), _regions_of(waiting), places)
            else:
                for call in waiting:
                    self._run(call)

    def _segment(self, note: str, regions: tuple[Region, ...], places: Mapping[int, int]) -> None:
        if not regions:
            return
        result = self._run(TaskCall('seg', note, regions))
        image = self._session.image
        # Masks of a picture of another size lie nowhere in this one: they are in `results` alone.
        fits = image is not None and image.shape == self._image.shape
        if isinstance(result, SegmentationResult) and fits:
            order = [
                places[id(region)] + index
                for region in regions
                for index in range(len(region.boxes))
            ]
            self._masks += zip(order, result.masks, strict=False)

    def _run(self, call: TaskCall) -> Result | None:
        if self._router is None:
            return None
        try:
            result = self._router.run(
                call,
                session=self._session,
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
        self.calls.append(call)
        return result


def _segments(call: TaskCall) -> bool:
    return call.task == 'seg' and bool(call.regions)


def _around_first_change(
    calls: Sequence[TaskCall],
) -> tuple[tuple[TaskCall, ...], tuple[TaskCall, ...]]:
    """Split calls where the first one stands that may make another picture."""
    for index, call in enumerate(calls):
        if call.task not in _KEEPS:
            return tuple(calls[:index]), tuple(calls[index:])
    return tuple(calls), ()


def _regions_of(calls: Sequence[TaskCall]) -> tuple[Region, ...]:
    return tuple(region for call in calls if _segments(call) for region in call.regions)


def _note(calls: Sequence[TaskCall]) -> str:
    return ' '.join(call.argument for call in calls if _segments(call) and call.argument)


def _numbered(regions: Sequence[Region]) -> dict[int, int]:
    """The number of the first box of each region, by the region's identity."""
    numbers, count = {}, 0
    for region in regions:
        numbers[id(region)] = count
        count += len(region.boxes)
    return numbers


@contextmanager
def _timed(stages: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    stages[stage] = (time.perf_counter() - start) * 1000


def _prose(parts: tuple[Part, ...]) -> str:
    return ''.join(part for part in parts if isinstance(part, str))


def _silent(text: str) -> None:
    """The `OnText` of a caller that does not listen."""
