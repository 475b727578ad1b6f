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
    Question,
    Turn,
    encode_all,
    stream_all,
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
        (self._seen,) = self._look([image])

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
        request = Request(
            instruction,
            history=history,
            session=session,
            on_text=on_text,
            on_progress=on_progress,
            cancel=cancel,
            execute=execute,
            mask_all=mask_all,
            seed=seed,
        )
        ((_, answer),) = self.ask_all([request])
        if isinstance(answer, UnifiedMLLMError):
            raise answer
        return answer

    def ask_all(
        self, requests: Sequence[Request]
    ) -> Iterator[tuple[int, Answer | UnifiedMLLMError]]:
        """Ask several questions, about one image or several cameras', together.

        Gives each answer with its place among the requests as soon as it is there, its task calls
        carried out, or what `ask` would have raised. Each is what it would be if it were asked
        alone; together they take less time, where the model can (model.protocol.BatchModel).
        """
        talks: list[_Talk] = []
        for place, seen in enumerate(self._seen_by(requests)):
            try:
                talks.append(_Talk(place, requests[place], _known(seen)))
            except UnifiedMLLMError as refusal:
                yield place, refusal
        started, decode_ms = time.perf_counter(), 0.0
        for talk, error in _listen(self.model, talks) if talks else ():
            decode_ms += (time.perf_counter() - started) * 1000
            yield talk.place, self._end(talk, error, decode_ms)
            started = time.perf_counter()

    def _end(
        self, talk: _Talk, error: UnifiedMLLMError | None, decode_ms: float
    ) -> Answer | UnifiedMLLMError:
        """Carry out what an answer calls for; returns the answer, or why there is none."""
        try:
            if error is not None:
                raise self._refused(talk, error)
            check(talk.cancel, 'the question')
            return talk.answer(self.router, self.model.info, decode_ms)
        except UnifiedMLLMError as failure:
            return failure

    def close(self) -> None:
        """Forget the image and unload the experts."""
        self._seen = self._made = None
        if self.router is not None:
            self.router.close()

    def _seen_by(self, requests: Sequence[Request]) -> list[_Seen | UnifiedMLLMError]:
        """Look at the images that come with requests, at all together; at each once."""
        new = {id(r.image): r.image for r in requests if r.image is not None}
        seen: dict[int, _Seen | UnifiedMLLMError] = {}
        for key, image in list(new.items()):
            try:
                check_image(image)
            except UnifiedMLLMError as error:
                seen[key] = error
                del new[key]
        if new:
            seen |= zip(new, self._look(list(new.values())), strict=True)
        return [
            self._image(request.session) if request.image is None else seen[id(request.image)]
            for request in requests
        ]

    def _image(self, session: Session | None) -> _Seen | UnifiedMLLMError:
        if session is not None:
            if self._seen is not None:
                session.see(self._seen.image)
            if session.image is not None and session.changed:
                return self._look_at_made(session.image)
        if self._seen is None:
            return NoImageError('there is no image to ask about: call set_image() first')
        return self._seen

    def _look_at_made(self, image: NDArray[np.uint8]) -> _Seen:
        if self._made is None or self._made.image is not image:
            check_image(image)
            (self._made,) = self._look([image])
        return self._made

    def _refused(self, talk: _Talk, error: UnifiedMLLMError) -> UnifiedMLLMError:
        """Keep the frame of an answer that the model's numbers spoil."""
        if not isinstance(error, NotFiniteError):
            return error
        from unifiedmllm_ros.runtime.refused import save_refused

        info = self.model.info
        facts = {'question': talk.text, 'error': str(error), 'model': info.name}
        facts |= {'backend': info.backend, 'precision': info.precision, 'device': info.device}
        return NotFiniteError(f'{error}; {save_refused(talk.seen.image, facts)}')

    def _look(self, images: Sequence[NDArray[np.uint8]]) -> list[_Seen]:
        start = time.perf_counter()
        features = encode_all(self.model, images)
        encode_ms = (time.perf_counter() - start) * 1000
        return [_Seen(image, f, encode_ms) for image, f in zip(images, features, strict=True)]


class _Talk:
    """A question that is being answered."""

    def __init__(self, place: int, request: Request, seen: _Seen) -> None:
        self.place, self.seen = place, seen
        self.text = clean_instruction(request.instruction)
        self.cancel = as_cancel(request.cancel)
        self.reading = _Reading(request.on_text or _silent)
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
        work = _Work(router, image, session, request.seed, request.on_progress, self.cancel)
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


def _listen(
    model: MultimodalModel, talks: Sequence[_Talk]
) -> Iterator[tuple[_Talk, UnifiedMLLMError | None]]:
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


def _known(seen: _Seen | UnifiedMLLMError) -> _Seen:
    if isinstance(seen, UnifiedMLLMError):
        raise seen
    return seen


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
