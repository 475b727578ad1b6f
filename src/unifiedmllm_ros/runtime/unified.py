"""UnifiedMLLM on an engine: the model as the perceiver sees it."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from unifiedmllm_ros.cancellation import Cancel, never
from unifiedmllm_ros.errors import ConfigError, GpuMemoryError, ModelFileError, UnifiedMLLMError
from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor
from unifiedmllm_ros.model.protocol import (
    Conversation,
    ModelInfo,
    Piece,
    Question,
    TextChunk,
)
from unifiedmllm_ros.representation import TASKS, TaskSpec, format, parse
from unifiedmllm_ros.runtime.backends import next_engine, open_engine
from unifiedmllm_ros.runtime.context import Context
from unifiedmllm_ros.runtime.counts import Counts
from unifiedmllm_ros.runtime.decoding import MAX_TOKENS, Asked, DecodedToken, Decoder
from unifiedmllm_ros.runtime.engine import Engine, EngineInfo
from unifiedmllm_ros.runtime.grammar import Grammar
from unifiedmllm_ros.runtime.seen import ImageFeatures, resume_all
from unifiedmllm_ros.runtime.speculation import Drafter

Lower = Callable[[EngineInfo, GpuMemoryError], Engine | None]


class UnifiedModel:
    """Answers questions about images; implements MultimodalModel and BatchModel."""

    def __init__(
        self,
        engine: Engine,
        processor: UnifiedMLLMProcessor,
        *,
        tasks: Mapping[str, TaskSpec] = TASKS,
        max_tokens: int = MAX_TOKENS,
        system: str = '',
        speculate: bool = True,
        lower: Lower | None = None,
    ) -> None:
        """Prepare the grammar and the prompt's beginning.

        tasks: those that answers may call, as far as the model has learnt them.
        max_tokens: after which an answer is brought to its end.
        system: standing instruction; it comes before the image and is computed once.
        speculate: draft answers from earlier ones, which changes the time and nothing else.
        lower: gives an engine to go on with where this one runs out of GPU memory, None for none.
        """
        self._engine = engine
        self._processor = processor
        self._tasks = tasks
        grammar = Grammar(processor, _learnt(processor, tasks))
        self._decoder = Decoder(grammar, max_tokens)
        self._drafter = Drafter(range(grammar.first_number, grammar.last_number + 1))
        self._speculate = speculate
        self._counts = Counts()
        self._system = system
        self._lower = lower
        self._opening = self._begin()

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        threads: int | None = None,
        backend: str = 'auto',
        precision: str = 'auto',
        tasks: Mapping[str, TaskSpec] = TASKS,
        max_tokens: int = MAX_TOKENS,
        system: str = '',
        speculate: bool = True,
    ) -> Self:
        """Load a model folder: tokenizer.json, processor_config.json and onnx/manifest.json.

        threads: of ONNX Runtime; by default one for each core, at most four. backend, precision:
        see `backends.open_engine`. Raises ModelFileError
        where a file is missing, damaged or does not belong to the others.
        """
        folder = Path(folder)
        processor = UnifiedMLLMProcessor.from_pretrained(folder)
        engine = open_engine(folder, backend, precision, threads)
        _check_match(folder, processor, engine)
        return cls(
            engine,
            processor,
            tasks=tasks,
            max_tokens=max_tokens,
            system=system,
            speculate=speculate,
            lower=partial(next_engine, folder, precision, threads) if backend == 'auto' else None,
        )

    def _begin(self) -> Context:
        opening = Context(self._engine)
        opening.append(self._processor.encode_prefix(images=0, system=self._system))
        return opening

    def _step_down(self, error: GpuMemoryError) -> None:
        """Go on with the next engine, or raise the error where there is none."""
        engine = self._lower(self._engine.info, error) if self._lower else None
        if engine is None:
            raise error
        self._engine = engine
        self._opening = self._begin()

    @property
    def info(self) -> ModelInfo:
        """What runs."""
        info = self._engine.info
        return ModelInfo(info.model, info.backend, info.precision, info.device, info.state)

    @property
    def max_tokens(self) -> int:
        """Tokens after which an answer is brought to its end; holds from the next question on."""
        return self._decoder.max_tokens

    @max_tokens.setter
    def max_tokens(self, value: int) -> None:
        if value < 1:
            raise ConfigError(f'max_tokens is {value}: an answer needs 1 or more')
        self._decoder.max_tokens = value

    @property
    def counts(self) -> Counts:
        """What decoding did since the model was loaded."""
        return self._counts

    @property
    def processor(self) -> UnifiedMLLMProcessor:
        """Tokenizer and image preprocessing."""
        return self._processor

    def encode(self, image: npt.NDArray[np.uint8]) -> ImageFeatures:
        """Look at an image, uint8 [height, width, 3] RGB of any size; ImageError for others."""
        return self.encode_all([image])[0]

    def encode_all(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[ImageFeatures]:
        """Look at the images of several cameras at once, one or more; see encode."""
        processor = self._processor
        pixels = np.concatenate([processor.pixels(image) for image in images])
        try:
            encoded = self._engine.encode_images(pixels)
        except GpuMemoryError as error:
            self._step_down(error)
            return self.encode_all(images)
        return [ImageFeatures(self._opening, processor.image_id, one) for one in encoded]

    def stream(
        self, features: ImageFeatures, conversation: Conversation, cancel: Cancel = never
    ) -> Iterator[TextChunk]:
        """Answer piece by piece; see MultimodalModel.stream for the errors, stream_all for more."""
        for piece in self.stream_all([Question(features, conversation, cancel)]):
            if piece.error is not None:
                raise piece.error
            if piece.chunk is not None:
                yield piece.chunk

    def stream_all(self, questions: Sequence[Question]) -> Iterator[Piece]:
        """Answer questions together, about one image or several; see BatchModel.stream_all.

        Where GPU memory runs out, the next engine answers what nothing has been said to yet.
        Answers that have begun fail, because another engine might say something else.
        """
        left = dict(enumerate(questions))
        while left:
            places, begun = list(left), set[int]()
            try:
                for piece in self._stream(list(left.values())):
                    place = places[piece.place]
                    begun.add(place)
                    if piece.chunk is None:
                        del left[place]
                    yield replace(piece, place=place)
            except GpuMemoryError as error:
                self._step_down(error)
                for place in begun & left.keys():
                    del left[place]
                    yield Piece(place, error=error)

    def _stream(self, questions: Sequence[Question]) -> Iterator[Piece]:
        prompts = [self.prompt(question.conversation) for question in questions]
        asked = self._asked(questions, prompts)
        texts = [_Text(self._processor) for _ in questions]
        for place, tokens in self._decoder.stream_all(asked, self._counts):
            if isinstance(tokens, UnifiedMLLMError):
                yield Piece(place, error=tokens)
                continue
            for chunk in texts[place].feed(tokens):
                yield Piece(place, chunk)
            if texts[place].written[-1:] == [self._processor.eos_id]:
                self._drafter.learn(self._last_question(prompts[place]), texts[place].written)
                yield Piece(place)

    def prompt(self, conversation: Conversation) -> list[int]:
        """Return the ids of a conversation, ready for generation."""
        # Earlier answers are written anew, so that none can bring in a chat token.
        turns: list[tuple[str, str | None]] = [
            (turn.question, format(parse(turn.answer, self._tasks)[0], self._tasks))
            for turn in conversation.history
        ]
        turns.append((conversation.question, None))
        return self._processor.encode_conversation(turns, system=self._system)

    def _asked(self, questions: Sequence[Question], prompts: Sequence[list[int]]) -> list[Asked]:
        seen = [question.features for question in questions]
        asked = []
        resumed = resume_all(seen, prompts, self._opening)
        for question, ids, (context, reused) in zip(questions, prompts, resumed, strict=True):
            self._counts.add_prompt(len(ids), reused)
            last = self._last_question(ids)
            draft = self._drafter.draft(last) if self._speculate else None
            asked.append(Asked(context, ids[context.length :], question.cancel, draft))
        return asked

    def _last_question(self, ids: list[int]) -> list[int]:
        user = self._processor.user_id
        return ids[len(ids) - 1 - ids[::-1].index(user) :]


class _Text:
    """Turns the tokens of an answer into text. written: those so far."""

    def __init__(self, processor: UnifiedMLLMProcessor) -> None:
        self.written: list[int] = []
        self._processor = processor
        self._decoder = codecs.getincrementaldecoder('utf-8')('replace')
        self._started = False

    def feed(self, tokens: Sequence[DecodedToken]) -> Iterator[TextChunk]:
        """Take the tokens of a pass; gives their text, in pieces that end with each box."""
        pending: list[bytes] = []
        for token in tokens:
            self.written.append(token.id)
            if token.id != self._processor.eos_id:
                pending.append(self._processor.token_bytes[token.id])
            if token.confidence is not None:
                yield from self._piece(pending, token.confidence)
                pending = []
        yield from self._piece(pending)

    def _piece(self, spelled: list[bytes], confidence: float | None = None) -> Iterator[TextChunk]:
        text = self._decoder.decode(b''.join(spelled))
        if not self._started:
            self._started, text = bool(text), text.removeprefix(' ')
        if text:
            yield TextChunk(text, confidence)


def _learnt(processor: UnifiedMLLMProcessor, tasks: Mapping[str, TaskSpec]) -> dict[str, TaskSpec]:
    names = processor.config.tasks
    return {name: spec for name, spec in tasks.items() if names is None or name in names}


def _check_match(folder: Path, processor: UnifiedMLLMProcessor, engine: Any) -> None:
    graphs, config = engine.manifest, processor.config
    pairs = {
        'image_size': (config.image_size, graphs.image_size),
        'visual_tokens': (config.visual_tokens, graphs.visual_tokens),
        'vocabulary': (processor.vocab_size, graphs.vocab),
    }
    for name, (expected, found) in pairs.items():
        if expected != found:
            raise ModelFileError(
                f'{folder}: {name} is {expected} for the processor and {found} for the graphs; '
                'they belong to different models, export the model again'
            )
