"""Detectors without a language model: phrases in, boxes with scores out, many times a second.

Boxes and scores are as published: Grounding DINO gives each of its queries a score for every token
of the text, OWLv2 for each text; the best counts. Source: processing_grounding_dino and
processing_owlv2 of transformers, with which the tests compare them. The label is the phrase that
holds the best token, so that it is always one that was asked for; the published code puts together
all tokens above a threshold, which can mix phrases.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

from unifiedmllm_ros.cancellation import Cancel, check, never
from unifiedmllm_ros.errors import ModelError, OutOfMemoryError
from unifiedmllm_ros.model.adapters.base import Flaw, Size
from unifiedmllm_ros.model.adapters.detectors import GROUNDING_DINO, Detection, DetectorAdapter
from unifiedmllm_ros.model.adapters.intent import read_intent
from unifiedmllm_ros.model.adapters.registry import DETECTORS
from unifiedmllm_ros.model.protocol import Conversation, ModelInfo, TextChunk
from unifiedmllm_ros.representation import Box, Region, Response, TaskCall, format
from unifiedmllm_ros.runtime.local.checkpoint import check_family, find
from unifiedmllm_ros.runtime.local.description import LocalDescription
from unifiedmllm_ros.runtime.local.family import (
    Picture,
    load_image_processor,
    load_tokenizer,
    shrunk,
)
from unifiedmllm_ros.runtime.local.padded_square import PaddedSquare
from unifiedmllm_ros.runtime.local.weights import Network, load_network

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Looked:
    """An image as a detector takes it."""

    size: Size
    tensors: dict[str, Any]


class Finder(Protocol):
    """What differs between kinds of detectors."""

    def look(self, image: Picture) -> dict[str, Any]:
        """Preprocess an image."""
        ...

    def find(self, module: Any, tensors: dict[str, Any], phrases: Sequence[str]) -> list[Detection]:
        """Run the network; boxes are centre, width and height as its adapter reads them."""
        ...


class DetectorModel:
    """Finds what phrases name; implements model.protocol.MultimodalModel.

    flaws: what was wrong with the latest boxes.
    """

    def __init__(self, network: Network, finder: Finder, adapter: DetectorAdapter) -> None:
        """Use a loaded network."""
        # A detector writes no tokens; the number is what the protocol asks for.
        self.max_tokens = 1
        self.flaws: tuple[Flaw, ...] = ()
        self._network = network
        self._finder = finder
        self._adapter = adapter
        self._max_pixels = 0

    @classmethod
    def load(cls, description: LocalDescription, *, threads: int = 2) -> Self:
        """Load what a description names; errors as those of LocalModel.load."""
        checkpoint = find(description.weights, description.folder)
        name = check_family(checkpoint, description.family)
        adapter = DETECTORS[name]
        if description.threshold is not None:
            adapter = replace(adapter, threshold=description.threshold)
        kind = GroundingDinoFinder if name == GROUNDING_DINO else Owlv2Finder
        finder = kind(checkpoint.folder, checkpoint.config)
        network = load_network(checkpoint, description, name, threads=threads)
        model = cls(network, finder, adapter)
        model._max_pixels = description.max_pixels
        return model

    @property
    def info(self) -> ModelInfo:
        """What runs."""
        info = self._network.info
        return replace(info, backend=f'{info.backend}, {self._adapter.name}')

    def encode(self, image: Picture) -> Looked:
        """Preprocess an image, uint8 [height, width, 3] RGB."""
        image = shrunk(image, self._max_pixels)
        return Looked(Size(image.shape[1], image.shape[0]), self._finder.look(image))

    def stream(
        self, features: Looked, conversation: Conversation, cancel: Cancel = never
    ) -> Iterator[TextChunk]:
        """Answer with all boxes at once, each with its score as confidence.

        Raises Cancelled before the network runs, ModelError, OutOfMemoryError.
        """
        response = self.detect(features, conversation.question, cancel=cancel)
        yield from chunks(response)

    def detect(
        self,
        features: Looked,
        question: str,
        *,
        phrases: Sequence[str] = (),
        cancel: Cancel = never,
    ) -> Response:
        """Find the phrases, by default those of the question."""
        import torch

        check(cancel, 'the question')
        wanted = tuple(phrases) or read_intent(question).phrases or (question,)
        try:
            with torch.inference_mode():
                found = self._finder.find(self._network.module, features.tensors, wanted)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise OutOfMemoryError(
                'the memory does not suffice for this picture: lower max_pixels'
            ) from error
        translation = self._adapter.parse(found, features.size, question=question)
        self.flaws = translation.flaws
        if self.flaws:
            # One line, not one for each box: this runs at frame rate.
            first, count = self.flaws[0], len(self.flaws)
            _log.debug('%s: %d boxes with flaws, first: %s', self.info.name, count, first.message)
        return translation.response


class GroundingDinoFinder:
    """Grounding DINO and its open reproduction (mm_grounding_dino)."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        """Load tokenizer and preprocessing."""
        self._tokenizer = load_tokenizer(folder)
        self._pictures = load_image_processor(folder)
        self._most = int(config.get('max_text_len', 256))

    def look(self, image: Picture) -> dict[str, Any]:
        """Preprocess an image."""
        return dict(self._pictures(images=image, return_tensors='pt'))

    def find(self, module: Any, tensors: dict[str, Any], phrases: Sequence[str]) -> list[Detection]:
        """Ask for all phrases in one text; see Finder."""
        import torch

        text, owners = self._text(phrases)
        ids = torch.tensor([text], device=module.device)
        placed = _placed(tensors, module)
        output = module(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            token_type_ids=torch.zeros_like(ids),
            **placed,
        )
        scores = _finite(output.logits)[0].float().sigmoid()[:, : len(text)]
        found = []
        # A query belongs to the phrase that holds its best token.
        best = scores.max(-1)
        for score, token, box in zip(
            best.values.tolist(), best.indices.tolist(), output.pred_boxes[0].tolist(), strict=True
        ):
            if owners[token] is not None:
                found.append(Detection(phrases[owners[token]], score, tuple(box)))
        return found

    def _text(self, phrases: Sequence[str]) -> tuple[list[int], list[int | None]]:
        """Return the ids of `phrase . phrase .` and which phrase each belongs to."""
        stop = self._tokenizer.convert_tokens_to_ids('.')
        ids: list[int] = [self._tokenizer.cls_token_id]
        owners: list[int | None] = [None]
        special = set(self._tokenizer.all_special_ids) - {self._tokenizer.unk_token_id}
        for number, phrase in enumerate(phrases):
            plain = phrase.lower().replace('.', ' ')
            own = self._tokenizer(plain, add_special_tokens=False)['input_ids']
            own = [one for one in own if one not in special]
            if len(ids) + len(own) + 2 > self._most:
                _log.warning('the detector takes %d tokens: later phrases are left out', self._most)
                break
            ids += [*own, stop]
            owners += [*[number] * len(own), None]
        return [*ids, self._tokenizer.sep_token_id], [*owners, None]


class Owlv2Finder:
    """OWLv2."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        """Load tokenizer and preprocessing."""
        self._tokenizer = load_tokenizer(folder)
        self._square = PaddedSquare.read(folder)
        text = config.get('text_config') or {}
        self._length = int(text.get('max_position_embeddings', 16))

    def look(self, image: Picture) -> dict[str, Any]:
        """Preprocess an image."""
        return {'pixel_values': self._square.pixels(image)}

    def find(self, module: Any, tensors: dict[str, Any], phrases: Sequence[str]) -> list[Detection]:
        """Ask for each phrase with a text of its own; see Finder."""
        encoded = self._tokenizer(
            [f'a photo of a {phrase}' for phrase in phrases],
            padding='max_length',
            truncation=True,
            max_length=self._length,
            return_tensors='pt',
        )
        placed = _placed({**tensors, **encoded}, module)
        placed = {name: placed[name] for name in ('pixel_values', 'input_ids', 'attention_mask')}
        output = module(**placed)
        best = _finite(output.logits)[0].float().max(-1)
        rows = zip(
            best.values.sigmoid().tolist(),
            best.indices.tolist(),
            output.pred_boxes[0].tolist(),
            strict=True,
        )
        return [Detection(phrases[text], score, tuple(box)) for score, text, box in rows]


def chunks(response: Response) -> Iterator[TextChunk]:
    """Write a response so that each box with a confidence ends a piece of its own."""
    for part in response.parts:
        if isinstance(part, Region):
            yield from _region(part)
        elif isinstance(part, TaskCall):
            opening, _, closing = format(Response((replace(part, regions=()),))).rpartition('</')
            yield TextChunk(opening)
            for region in part.regions:
                yield from _region(region)
            yield TextChunk(f'</{closing}')
        else:
            yield TextChunk(format(Response((part,))))


def _region(region: Region) -> Iterator[TextChunk]:
    opening, *boxes = format(Response((region,))).split('<box>')
    for box, text in zip(region.boxes, boxes, strict=True):
        yield TextChunk(f'{opening}<box>{text}', _known(box))
        opening = ''


def _known(box: Box) -> float | None:
    return box.confidence


def _placed(tensors: dict[str, Any], module: Any) -> dict[str, Any]:
    return {
        name: value.to(module.device, module.dtype)
        if value.is_floating_point()
        else value.to(module.device)
        for name, value in tensors.items()
    }


def _finite(logits: Any) -> Any:
    """Queries and tokens that do not count are minus infinity; NaN is an error."""
    if bool(logits.isnan().any()):
        raise ModelError('the detector gave scores that are no numbers: try dtype: float32')
    return logits
