"""A model whose answers are written down, and an expert whose masks are the boxes themselves.

They stand at the ends of the real perceiver, router, node and DDS, so that tests know the answer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unifiedmllm_ros.cancellation import Cancel, check
from unifiedmllm_ros.experts.base import OnProgress, Provenance, Request, SegmentationResult
from unifiedmllm_ros.experts.configuration import ExpertsConfig
from unifiedmllm_ros.experts.registry import ExpertRegistry
from unifiedmllm_ros.masks import Mask
from unifiedmllm_ros.model.protocol import Conversation, ModelInfo, TextChunk
from unifiedmllm_ros.perception import Perceiver
from unifiedmllm_ros.router import Router

MUG = (
    'The mug is here. <seg><p>red mug</p><box>[0.250, 0.250, 0.500, 0.500]</box></seg>',
    0.9,
)
BOWLS = (
    '<p>bowl</p><box>[0.000, 0.000, 0.250, 0.500]</box><box>[0.500, 0.500, 1.000, 1.000]</box>',
    0.4,
)
ANSWERS = {
    'find the mug': MUG,
    'find all bowls': BOWLS,
    'is there a hammer?': ('There is no hammer.', None),
    'draw a cat': ('Here it is. <gen>a cat</gen>', None),
}


class ScriptedModel:
    """Answers word by word from `answers`; a `MultimodalModel`.

    started: set when an answer begins. gate: each word after the first waits until it is set.
    defects: raised, in order, instead of answering.
    """

    def __init__(self, answers: Mapping[str, tuple[str, float | None]] = ANSWERS) -> None:
        self.max_tokens = 0
        self.answers = answers
        self.started = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.defects: list[Exception] = []
        self.seen: list[tuple[int, ...]] = []
        self.asked: list[str] = []
        self.threads: set[int] = set()

    @property
    def info(self) -> ModelInfo:
        return ModelInfo('scripted', 'script')

    def encode(self, image: np.ndarray) -> np.ndarray:
        self.seen.append(image.shape)
        self.threads.add(threading.get_ident())
        return image

    def stream(
        self, features: Any, conversation: Conversation, cancel: Cancel
    ) -> Iterator[TextChunk]:
        self.threads.add(threading.get_ident())
        self.asked.append(conversation.question)
        if self.defects:
            raise self.defects.pop(0)
        text, confidence = self.answers[conversation.question]
        for number, word in enumerate(text.replace('</box>', '</box>\n').split('\n')):
            self.started.set()
            while number and not self.gate.wait(0.005):
                check(cancel, 'the question')
            check(cancel, 'the question')
            yield TextChunk(word, confidence if word.endswith('</box>') else None)


class BoxMask:
    """Segmentation expert: the mask of a box is the whole box."""

    def __init__(self, name: str, weights: Path | None = None) -> None:
        self.name = name

    def load(self) -> None:
        pass

    def unload(self) -> None:
        pass

    def run(self, request: Request, progress: OnProgress, cancel: Cancel) -> SegmentationResult:
        masks = []
        for box in request.boxes:
            left, top, right, bottom = (round(edge) for edge in box.edges)
            pixels = np.ones((bottom - top, right - left), dtype=bool)
            masks.append(Mask(box.phrase, box.box, left, top, pixels))
        provenance = Provenance(self.name, 'script', '', request.seed, {}, 0.0)
        return SegmentationResult(provenance, tuple(masks))


def scripted_perceiver(model: ScriptedModel) -> Perceiver:
    config = ExpertsConfig.model_validate(
        {
            'experts': {
                'boxes': {'implementation': f'{__name__}:BoxMask', 'kind': 'segmentation'},
            },
            'tasks': {'seg': 'boxes'},
        }
    )
    return Perceiver(model, Router(ExpertRegistry(config, Path())))
