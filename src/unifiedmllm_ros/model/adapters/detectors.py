"""Detectors without a language model: phrases in, boxes with scores out.

- Grounding DINO (and mm_grounding_dino): one text, phrases in lower case, each ended by a full
  stop. Boxes are centre x, centre y, width, height in fractions of the image. Source: arXiv
  2303.05499 and transformers' processing_grounding_dino.
- OWLv2: one text for each phrase, `a photo of a ...`. Boxes are centre x, centre y, width, height
  in fractions of a square whose side is the longer one of the image, padded at the bottom and the
  right. Source: arXiv 2306.09683 and transformers' image_processing_owlv2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unifiedmllm_ros.model.adapters.base import (
    BoxReader,
    Size,
    Translation,
    clean_label,
    grouped,
    respond,
)
from unifiedmllm_ros.model.adapters.intent import read_intent
from unifiedmllm_ros.representation import Region

GROUNDING_DINO = 'grounding-dino'
OWLV2 = 'owlv2'


@dataclass(frozen=True)
class Detection:
    """One box of a detector: its label, score in [0, 1], and centre x, centre y, width, height."""

    label: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class DetectorAdapter:
    """Translates between an instruction and a detector.

    padded: boxes are fractions of the padded square (OWLv2), not of the image (Grounding DINO).
    threshold: detections with a smaller score are left out.
    """

    name: str
    padded: bool
    threshold: float

    def texts(self, question: str) -> tuple[str, ...]:
        """Return the text or texts to look for."""
        phrases = read_intent(question).phrases or (question,)
        if self.padded:
            return tuple(f'a photo of a {phrase}' for phrase in phrases)
        plain = (phrase.lower().replace('.', ' ').strip() for phrase in phrases)
        return (' '.join(f'{phrase}.' for phrase in plain),)

    def parse(
        self, detections: Sequence[Detection], image: Size, *, question: str = ''
    ) -> Translation:
        """Make a response of detections, the surest first; confidences are the scores."""
        reader = BoxReader()
        regions = []
        sure = [d for d in detections if math.isfinite(d.score) and d.score >= self.threshold]
        for position, found in enumerate(sorted(sure, key=lambda d: -d.score)):
            score = min(1.0, max(0.0, found.score))
            box = reader.read(self._corners(found, image), position, found.label, score)
            if box is not None:
                regions.append(Region(_phrase(found.label), (box,)))
        return Translation(respond(grouped(regions), read_intent(question)), reader.close())

    def _corners(self, found: Detection, image: Size) -> tuple[float, float, float, float]:
        x, y, width, height = found.box
        side = max(image.width, image.height)
        across, down = (side / image.width, side / image.height) if self.padded else (1.0, 1.0)
        return (
            (x - width / 2) * across,
            (y - height / 2) * down,
            (x + width / 2) * across,
            (y + height / 2) * down,
        )


def _phrase(label: str) -> str:
    return clean_label(label.removeprefix('a photo of a ').rstrip(' .'))
