"""The perceiver: an image once, then any number of questions about it.

It knows no framework and no ROS: a `MultimodalModel` gives the text, the router's experts do what
the text calls for. One thread uses a perceiver at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.answer import Answer, Failure, OnText, Request
from unifiedmllm_ros.cancellation import Cancel, EventLike, check
from unifiedmllm_ros.errors import NoImageError, NotFiniteError, UnifiedMLLMError
from unifiedmllm_ros.experts.base import OnProgress, check_image, unheard
from unifiedmllm_ros.model.protocol import MultimodalModel, Turn, encode_all
from unifiedmllm_ros.router import Router
from unifiedmllm_ros.session import Session
from unifiedmllm_ros.talk import Seen, Talk, listen

__all__ = ['Answer', 'Failure', 'OnText', 'Perceiver', 'Request']


class Perceiver:
    """Answers questions about an image: text, boxes and, through the router, masks and more."""

    def __init__(self, model: MultimodalModel, router: Router | None = None) -> None:
        """Use a model, and a router for its task calls; without one they are not carried out."""
        self.model = model
        self.router = router
        self._seen: Seen | None = None
        self._made: Seen | None = None

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
        talks: list[Talk] = []
        for place, seen in enumerate(self._seen_by(requests)):
            try:
                talks.append(Talk(place, requests[place], _known(seen)))
            except UnifiedMLLMError as refusal:
                yield place, refusal
        started, decode_ms = time.perf_counter(), 0.0
        for talk, error in listen(self.model, talks) if talks else ():
            decode_ms += (time.perf_counter() - started) * 1000
            yield talk.place, self._end(talk, error, decode_ms)
            started = time.perf_counter()

    def _end(
        self, talk: Talk, error: UnifiedMLLMError | None, decode_ms: float
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

    def _seen_by(self, requests: Sequence[Request]) -> list[Seen | UnifiedMLLMError]:
        """Look at the images that come with requests, at all together; at each once."""
        new = {id(r.image): r.image for r in requests if r.image is not None}
        seen: dict[int, Seen | UnifiedMLLMError] = {}
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

    def _image(self, session: Session | None) -> Seen | UnifiedMLLMError:
        if session is not None:
            if self._seen is not None:
                session.see(self._seen.image)
            if session.image is not None and session.changed:
                return self._look_at_made(session.image)
        if self._seen is None:
            return NoImageError('there is no image to ask about: call set_image() first')
        return self._seen

    def _look_at_made(self, image: NDArray[np.uint8]) -> Seen:
        if self._made is None or self._made.image is not image:
            check_image(image)
            (self._made,) = self._look([image])
        return self._made

    def _refused(self, talk: Talk, error: UnifiedMLLMError) -> UnifiedMLLMError:
        """Keep the frame of an answer that the model's numbers spoil."""
        if not isinstance(error, NotFiniteError):
            return error
        from unifiedmllm_ros.runtime.refused import save_refused

        info = self.model.info
        facts = {'question': talk.text, 'error': str(error), 'model': info.name}
        facts |= {'backend': info.backend, 'precision': info.precision, 'device': info.device}
        return NotFiniteError(f'{error}; {save_refused(talk.seen.image, facts)}')

    def _look(self, images: Sequence[NDArray[np.uint8]]) -> list[Seen]:
        start = time.perf_counter()
        features = encode_all(self.model, images)
        encode_ms = (time.perf_counter() - start) * 1000
        return [Seen(image, f, encode_ms) for image, f in zip(images, features, strict=True)]


def _known(seen: Seen | UnifiedMLLMError) -> Seen:
    if isinstance(seen, UnifiedMLLMError):
        raise seen
    return seen
