"""Somebody else's model on this machine, as the perceiver sees it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from unifiedmllm_ros.cancellation import Cancel, never
from unifiedmllm_ros.errors import ConfigError, ImageError, OutOfMemoryError
from unifiedmllm_ros.model.adapters.base import Flaw, FlawKind, Size
from unifiedmllm_ros.model.adapters.registry import adapter
from unifiedmllm_ros.model.protocol import Conversation, ModelInfo, TextChunk
from unifiedmllm_ros.representation import Response, format
from unifiedmllm_ros.runtime.decoding import MAX_TOKENS
from unifiedmllm_ros.runtime.local.checkpoint import Checkpoint, check_family, find
from unifiedmllm_ros.runtime.local.constraint import Constraint
from unifiedmllm_ros.runtime.local.description import LocalDescription
from unifiedmllm_ros.runtime.local.family import Family, Picture, Seen, shrunk
from unifiedmllm_ros.runtime.local.generation import (
    Written,
    check_length,
    ends,
    generate,
)
from unifiedmllm_ros.runtime.local.vocabulary import token_bytes
from unifiedmllm_ros.runtime.local.weights import Network, load_network

_log = logging.getLogger(__name__)
_CHAT = ('qwen2.5-vl', 'qwen3-vl', 'native')
_CLOSING = '</box>'


class LocalModel:
    """Answers questions about images; implements model.protocol.MultimodalModel.

    flaws: what was wrong with the latest answer before it became unified representation; for a
    native one see Answer.problems. attention: the implementation that runs.
    """

    def __init__(self, network: Network, family: Family, description: LocalDescription) -> None:
        """Use a loaded network. Raises ConfigError where the grammar cannot hold this model."""
        self.max_tokens = MAX_TOKENS
        self.flaws: tuple[Flaw, ...] = ()
        self.attention = network.attention
        self._network = network
        self._family = family
        self._description = description
        self._constraint = _constraint(network, family) if description.constrained else None

    @classmethod
    def load(cls, description: LocalDescription, *, threads: int = 2) -> Self:
        """Load what a description names.

        Raises ModelFileError (not downloaded, incomplete, damaged), OutOfMemoryError (with a
        smaller way to run it), ConfigError, MissingExtraError.
        """
        checkpoint = find(description.weights, description.folder)
        name = check_family(checkpoint, description.family)
        if description.constrained and name not in _CHAT:
            raise ConfigError(
                f'constrained is for models that read instructions ({", ".join(_CHAT)}): '
                f'{name} writes a language of its own'
            )
        family = _family(checkpoint, name, description)
        network = load_network(checkpoint, description, name, threads=threads)
        return cls(network, family, description)

    @property
    def info(self) -> ModelInfo:
        """What runs; `backend` names the attention and the adapter."""
        info = self._network.info
        return replace(info, backend=f'{info.backend}, {self._family.adapter.name}')

    def encode(self, image: Picture) -> Seen:
        """Preprocess an image, uint8 [height, width, 3] RGB; the network sees it when asked."""
        return self._family.look(shrunk(image, self._description.max_pixels))

    def encode_video(self, frames: Sequence[Picture], seconds: float) -> Seen:
        """Preprocess a video: frames of one size, at equal distances over `seconds`.

        Of more frames than video_frames some are taken, at equal distances. Boxes in the answer
        are fractions of its frames. Raises ConfigError for families that take no video, ImageError
        where the frames do not belong together.
        """
        watch = getattr(self._family, 'watch', None)
        if watch is None:
            raise ConfigError(f'{self.info.name} takes no video: ask it about a single frame')
        if not frames or len({frame.shape for frame in frames}) != 1:
            raise ImageError('a video needs one frame or more, all of one size')
        if not seconds >= 0:
            raise ImageError(f'a video lasts 0 seconds or longer, not {seconds}')
        count = min(len(frames), self._description.video_frames)
        places = np.linspace(0, len(frames) - 1, count).round().astype(int)
        chosen = [shrunk(frames[place], self._description.max_pixels) for place in places]
        seen: Seen = watch(chosen, seconds)
        return seen

    def stream(
        self, features: Seen, conversation: Conversation, cancel: Cancel = never
    ) -> Iterator[TextChunk]:
        """Answer; a native one piece by piece, others part by part once they are complete.

        Raises Cancelled within one decoding step, ModelError, InstructionError, OutOfMemoryError.
        """
        self.flaws = ()
        messages = self._family.adapter.messages(conversation, features.size)
        inputs = self._family.inputs(messages, features)
        check_length(inputs, self._positions(), self.max_tokens)
        written = generate(
            self._network.module, self._placed(inputs), self.max_tokens, cancel, self._constraint
        )
        if self._family.adapter.name == 'native':
            yield from _pieces(written, self._family)
            return
        yield from self._translated(written, features, conversation.question)

    def _translated(
        self, written: Iterator[Written], seen: Seen, question: str
    ) -> Iterator[TextChunk]:
        ids = [token.id for token in written]
        text = self._family.text(ids)
        parse = self._family.adapter.parse
        translation = parse(text, seen.size, seen.resized, question=question)
        self.flaws = translation.flaws
        if len(ids) >= self.max_tokens and ids[-1] not in ends(
            self._network.module, self._family.tokenizer
        ):
            message = f'the answer reached max_tokens ({self.max_tokens}) and was cut there'
            self.flaws += (Flaw(FlawKind.TRUNCATED, len(text), '', message),)
        for flaw in self.flaws:
            _log.warning('%s: %s at %d: %s', self.info.name, flaw.kind.value, flaw.position, flaw)
        for part in translation.response.parts:
            yield TextChunk(format(Response((part,))))

    def _placed(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Move inputs to the network; pictures in its precision."""
        import torch

        module = self._network.module
        try:
            return {
                name: value.to(module.device, module.dtype)
                if value.is_floating_point()
                else value.to(module.device)
                for name, value in inputs.items()
            }
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError('the picture does not fit: lower max_pixels') from error

    def _positions(self) -> int | None:
        config = self._network.module.config
        text = getattr(config, 'text_config', config)
        found = getattr(text, 'max_position_embeddings', None)
        # An encoder-decoder has them twice; its answers are short.
        return found if isinstance(found, int) and not config.is_encoder_decoder else None


def _pieces(written: Iterator[Written], family: Family) -> Iterator[TextChunk]:
    """Pass text on once its characters are whole; a box with a confidence ends a piece."""
    ids: list[int] = []
    waiting: list[float] = []
    done = 0
    for token in written:
        ids.append(token.id)
        if token.confidence is not None:
            waiting.append(token.confidence)
        text = family.text(ids)
        end = _safe_end(text)
        yield from _cut(text[done:end], waiting)
        done = max(done, end)
    yield from _cut(family.text(ids)[done:] if ids else '', waiting)


def _safe_end(text: str) -> int:
    """Where text ends that will not change: before half a character or half a `</box>`."""
    whole = len(text.rstrip('\ufffd'))
    for length in range(min(len(_CLOSING) - 1, whole), 0, -1):
        if text[:whole].endswith(_CLOSING[:length]):
            return whole - length
    return whole


def _cut(text: str, confidences: list[float]) -> Iterator[TextChunk]:
    while confidences and _CLOSING in text:
        box, _, text = text.partition(_CLOSING)
        yield TextChunk(box + _CLOSING, confidences.pop(0))
    if text:
        yield TextChunk(text)


def _constraint(network: Network, family: Family) -> Constraint:
    output = network.module.get_output_embeddings()
    size = int(output.weight.shape[0]) if output is not None else len(family.tokenizer)
    spelled = token_bytes(family.tokenizer, size)
    return Constraint(spelled, ends(network.module, family.tokenizer))


def _family(checkpoint: Checkpoint, name: str, description: LocalDescription) -> Family:
    """Imported only where it is used."""
    speaks = adapter('native' if description.constrained else name)
    kind = checkpoint.family or name
    if kind in ('qwen2.5-vl', 'qwen3-vl') and checkpoint.family:
        from unifiedmllm_ros.runtime.local.qwen import QwenFamily

        return QwenFamily(checkpoint.folder, speaks, checkpoint.config)
    if kind == 'florence2':
        from unifiedmllm_ros.runtime.local.florence2 import Florence2Family

        return Florence2Family(checkpoint.folder, speaks, checkpoint.config)
    if kind == 'paligemma':
        from unifiedmllm_ros.runtime.local.paligemma import PaliGemmaFamily

        return PaliGemmaFamily(checkpoint.folder, speaks, checkpoint.config)
    if kind == 'kosmos2':
        from unifiedmllm_ros.runtime.local.kosmos2 import Kosmos2Family

        return Kosmos2Family(checkpoint.folder, speaks, checkpoint.config)
    from unifiedmllm_ros.runtime.local.chat import ChatFamily

    return ChatFamily(checkpoint.folder, speaks)


__all__ = ['LocalModel', 'Size']
