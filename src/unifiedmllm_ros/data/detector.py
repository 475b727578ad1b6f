"""Boxes of things in pictures, by an object detector or by a model that finds what it is asked for.

`Detector` is any `AutoModelForObjectDetection` of `transformers` on disk, which knows its classes;
`PhraseFinder` asks any model of ours, Grounding DINO or OWLv2 among them, for given phrases.

DETR, YOLOS, RT-DETR, D-FINE and their kin give for every query class logits and a box (centre x,
centre y, width, height in fractions of the image). Where there is one logit more than classes, the
last is "no object" and the classes exclude each other (Carion et al., 2020); otherwise each class
stands for itself (Zhu et al., 2021).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.data.grounding import GroundedImage, Thing, write_boxes
from unifiedmllm_ros.errors import ConfigError, MissingExtraError, ModelFileError

if TYPE_CHECKING:
    from unifiedmllm_ros.perception import Perceiver

PICTURES = frozenset({'.jpg', '.jpeg', '.png', '.webp', '.bmp'})


@dataclass(frozen=True)
class Detector:
    """A loaded detector; boxes with a smaller score than `threshold` are left out."""

    model: Any
    processor: Any
    threshold: float

    @classmethod
    def load(cls, folder: Path, threshold: float = 0.5, threads: int = 2) -> Detector:
        """Load a checkpoint (safetensors) from disk; nothing is downloaded.

        Raises ModelFileError, ConfigError (no detector, or a threshold out of range).
        """
        if not 0.0 <= threshold <= 1.0:
            raise ConfigError(f'threshold is {threshold}: give a score from 0 to 1')
        try:
            import torch
            from transformers import AutoModelForObjectDetection
        except ModuleNotFoundError as error:
            raise MissingExtraError.naming(error.name or 'transformers', 'vlm') from error
        from unifiedmllm_ros.runtime.local.family import load_image_processor

        torch.set_num_threads(threads)
        processor = load_image_processor(folder)
        try:
            model = AutoModelForObjectDetection.from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, KeyError) as error:
            reason = ' '.join(str(error).split())[:300]
            raise ModelFileError(f'{folder}: is no object detector: {reason}') from error
        return cls(model.eval(), processor, threshold)

    def find(self, image: NDArray[np.uint8]) -> tuple[Thing, ...]:
        """The things of an RGB image (height, width, 3), the surest first."""
        import torch

        inputs = self.processor(images=image, return_tensors='pt')
        with torch.inference_mode():
            output = self.model(pixel_values=inputs['pixel_values'])
        logits, boxes = output.logits[0].float(), output.pred_boxes[0].float()
        labels = self.model.config.id2label
        exclusive = logits.shape[-1] == len(labels) + 1
        scores = logits.softmax(-1)[:, :-1] if exclusive else logits.sigmoid()
        best, which = scores.max(-1)
        found = zip(best.tolist(), which.tolist(), boxes.tolist(), strict=True)
        things = (
            _thing(labels.get(label, ''), box, score)
            for score, label, box in sorted(found, key=lambda f: -f[0])
            if score >= self.threshold
        )
        return tuple(thing for thing in things if thing is not None)


@dataclass(frozen=True)
class PhraseFinder:
    """Asks for one phrase after the other; boxes without a score count as sure."""

    perceiver: Perceiver
    phrases: tuple[str, ...]
    threshold: float = 0.3

    @classmethod
    def load(
        cls, model: str, phrases: Sequence[str], threshold: float = 0.3, threads: int = 2
    ) -> PhraseFinder:
        """Load a model by name, folder or description, as everywhere (`load_model`)."""
        from unifiedmllm_ros.perception import Perceiver
        from unifiedmllm_ros.runtime.loading import load_model

        wanted = tuple(' '.join(phrase.split()) for phrase in phrases if phrase.strip())
        if not wanted:
            raise ConfigError('no phrases to look for: give some, such as dog,blue car')
        return cls(Perceiver(load_model(model, threads=threads)), wanted, threshold)

    def find(self, image: NDArray[np.uint8]) -> tuple[Thing, ...]:
        """The things of an RGB image (height, width, 3), phrase by phrase."""
        self.perceiver.set_image(image)
        return tuple(
            Thing(phrase=phrase, box=box.corners, score=box.confidence)
            for phrase in self.phrases
            for region in self.perceiver.ask(f'find the {phrase}', execute=False).response.regions
            for box in region.boxes
            if box.confidence is None or box.confidence >= self.threshold
        )


class Finder(Protocol):
    """What finds things in a picture."""

    def find(self, image: NDArray[np.uint8]) -> tuple[Thing, ...]:
        """The things of an RGB image (height, width, 3)."""
        ...


def ground(folder: Path, out: Path, detector: Finder) -> tuple[int, int, list[Path]]:
    """Write the boxes of all pictures below a folder.

    Returns how many pictures and things there are, and the files that are no pictures. Raises
    ConfigError where `out` does not lie in `folder` or above it.
    """
    try:
        prefix = folder.resolve().relative_to(out.parent.resolve())
    except ValueError as error:
        raise ConfigError(
            f'{out} must lie in {folder} or a folder above it: pictures are named from there'
        ) from error
    unreadable: list[Path] = []
    counts = [0]

    def images() -> Iterator[GroundedImage]:
        for path in sorted(p for p in folder.rglob('*') if p.suffix.lower() in PICTURES):
            pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if pixels is None:
                unreadable.append(path)
                continue
            things = detector.find(np.ascontiguousarray(pixels[..., ::-1], np.uint8))
            counts[0] += len(things)
            name = (prefix / path.relative_to(folder)).as_posix()
            yield GroundedImage(image=name, things=things)

    written = write_boxes(out, images())
    return written, counts[0], unreadable


def _thing(label: str, box: list[float], score: float) -> Thing | None:
    x, y, width, height = box
    corners = np.clip((x - width / 2, y - height / 2, x + width / 2, y + height / 2), 0.0, 1.0)
    x1, y1, x2, y2 = (round(float(value), 4) for value in corners)
    words = ' '.join(''.join(c if c not in '<>&' else ' ' for c in label).split())
    if not words or x1 >= x2 or y1 >= y2:
        return None
    return Thing(phrase=words, box=(x1, y1, x2, y2), score=round(min(score, 1.0), 4))
