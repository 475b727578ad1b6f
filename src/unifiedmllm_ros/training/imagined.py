"""Regions made from ground truth instead of pixels, with the encoder's kinds of error.

They show the language model far more arrangements than were rendered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from unifiedmllm_ros.model.regions import Regions, left_to_right
from unifiedmllm_ros.tabletop.record import SceneRecord
from unifiedmllm_ros.training.region_targets import geometry_of


@dataclass(frozen=True)
class EncoderNoise:
    """How far imagined regions stray: box jitter as a share of the box's size, probability of a
    lost object, of a second region on the same object, and of a confused word."""

    jitter: float = 0.03
    lost: float = 0.02
    double: float = 0.05
    confused: float = 0.08
    geometry: float = 0.06


def imagine_regions(
    scene: SceneRecord,
    words: NDArray[np.float32],
    count: int,
    width: int,
    rng: np.random.Generator,
    noise: EncoderNoise | None = None,
) -> Regions:
    """One scene's regions (batch of 1). Args: words: (objects, W); width: appearance channels."""
    noise = noise or EncoderNoise()
    rows = [_phantom(words, rng) for _ in range(count)]
    place = 0
    for thing, names in zip(scene.objects, words, strict=True):
        if thing.area == 0 or rng.random() < noise.lost:
            continue
        weak = not scene.referable(thing)
        for _ in range(1 + (rng.random() < noise.double)):
            if place < count:
                rows[place] = _seen(thing.box, geometry_of(thing), names, words, weak, rng, noise)
                place += 1
            weak = True
    score, boxes, named, geometry = (
        np.array(column, np.float32) for column in zip(*rows, strict=True)
    )
    regions = Regions(
        torch.from_numpy(score)[None],
        torch.from_numpy(boxes)[None],
        torch.from_numpy(named)[None],
        torch.from_numpy(geometry)[None],
        torch.zeros(1, count, width),
    )
    return left_to_right(regions)


def _phantom(words: NDArray, rng: np.random.Generator) -> tuple:
    x, y = rng.random(2) * 0.8
    w, h = 0.05 + 0.2 * rng.random(2)
    names = rng.random(words.shape[1]) ** 8 * 0.3
    return rng.random() * 0.12, (x, y, min(x + w, 1), min(y + h, 1)), names, rng.normal(size=3) / 4


def _seen(box, geometry, names, words, weak, rng, noise) -> tuple:  # type: ignore[no-untyped-def]
    x1, y1, x2, y2 = box
    size = np.array([x2 - x1, y2 - y1, x2 - x1, y2 - y1])
    corners = np.clip(np.array(box) + rng.normal(size=4) * size * noise.jitter, 0, 1)
    said = names * rng.uniform(0.75, 1.0, names.shape) + (1 - names) * rng.random(names.shape) ** 12
    if rng.random() < noise.confused:
        other = words[rng.integers(len(words))]
        share = rng.uniform(0.1, 0.6)
        said = said * (1 - share) + other * share
    score = rng.uniform(0.05, 0.5) if weak else rng.uniform(0.35, 0.95)
    return score, corners, said, np.array(geometry) + rng.normal(size=3) * noise.geometry
