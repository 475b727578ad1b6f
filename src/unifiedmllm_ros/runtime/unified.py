"""UnifiedMLLM on an engine: the model as the perceiver sees it."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from unifiedmllm_ros.cancellation import Cancel, never
from unifiedmllm_ros.errors import ConfigError, GpuMemoryError, ModelFileError
from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor
from unifiedmllm_ros.model.protocol import Conversation, ModelInfo, TextChunk
from unifiedmllm_ros.representation import TASKS, TaskSpec, format, parse
from unifiedmllm_ros.runtime.backends import next_engine, open_engine
from unifiedmllm_ros.runtime.context import Context
from unifiedmllm_ros.runtime.counts import Counts
from unifiedmllm_ros.runtime.decoding import MAX_TOKENS, DecodedToken, Decoder
from unifiedmllm_ros.runtime.engine import Array, Engine, EngineInfo
from unifiedmllm_ros.runtime.grammar import Grammar
from unifiedmllm_ros.runtime.speculation import Drafter

Lower = Callable[[EngineInfo, GpuMemoryError], Engine | None]


class ImageFeatures:
    """What the model keeps of an image: its visual tokens and the latest dialogue about it."""

    def __init__(self, opening: Context, image_id: int, features: Array) -> None:
        """opening: what precedes the image."""
        self._image = image_id, features
        self._begin(opening)

    def _begin(self, opening: Context) -> None:
        self._latest = opening.fork()
        self._latest.show(*self._image)

    def resume(self, ids: list[int], opening: Context) -> tuple[Context, list[int]]:
        """Return a context of the longest cached beginning of `ids`, and the ids that remain.

        opening: of the engine that runs now; where it is another one, nothing is cached yet.

        At least one id remains, because the next token needs a forward pass. The context becomes
        the latest dialogue. The image's ids are among those that remain before the first one: it
        is computed in one pass with the question.
        """
        if opening.engine is not self._latest.engine:
            self._begin(opening)
        length = min(self._latest.common(ids), len(ids) - 1)
        self._latest = self._latest.fork(length)
        return self._latest, ids[length:]


class UnifiedModel:
    """Answers questions about images; implements model.protocol.MultimodalModel."""

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
        """Answer piece by piece; see MultimodalModel.stream for the errors.

        Where GPU memory runs out before the first piece, the next engine answers. After it this
        question fails, because another engine might say something else, and the next one is
        answered by that engine.
        """
        ids, said = self.prompt(conversation), False
        while True:
            try:
                context, rest = features.resume(ids, self._opening)
                self._counts.add_prompt(len(ids), len(ids) - len(rest))
                for chunk in self._text(self._answer(context, ids, rest, cancel)):
                    said = True
                    yield chunk
                return
            except GpuMemoryError as error:
                self._step_down(error)
                if said:
                    raise

    def prompt(self, conversation: Conversation) -> list[int]:
        """Return the ids of a conversation, ready for generation."""
        # Earlier answers are written anew, so that none can bring in a chat token.
        turns: list[tuple[str, str | None]] = [
            (turn.question, format(parse(turn.answer, self._tasks)[0], self._tasks))
            for turn in conversation.history
        ]
        turns.append((conversation.question, None))
        return self._processor.encode_conversation(turns, system=self._system)

    def _answer(
        self, context: Context, ids: list[int], rest: list[int], cancel: Cancel
    ) -> Iterator[DecodedToken]:
        """Decode, guessing from earlier answers, and remember this one once it is whole."""
        question = self._last_question(ids)
        draft = self._drafter.draft(question) if self._speculate else None
        written: list[int] = []
        for token in self._decoder.stream(context, rest, cancel, draft, self._counts):
            written.append(token.id)
            yield token
        self._drafter.learn(question, written)

    def _last_question(self, ids: list[int]) -> list[int]:
        user = self._processor.user_id
        return ids[len(ids) - 1 - ids[::-1].index(user) :]

    def _text(self, tokens: Iterator[DecodedToken]) -> Iterator[TextChunk]:
        processor = self._processor
        decoder = codecs.getincrementaldecoder('utf-8')('replace')
        started = False
        for token in tokens:
            if token.id == processor.eos_id:
                continue
            text = decoder.decode(processor.token_bytes[token.id])
            if not started:
                started, text = bool(text), text.removeprefix(' ')
            if text:
                yield TextChunk(text, token.confidence)


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
