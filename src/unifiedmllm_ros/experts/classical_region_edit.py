"""Edits inside boxes without a trained generator: remove, recolour, looks. A classical fallback.

What is removed is filled from its surroundings (Telea, 2004, by OpenCV). Nothing can be put in.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.cancellation import Cancel, check
from unifiedmllm_ros.errors import ConfigError, ExpertError
from unifiedmllm_ros.experts.base import (
    ImageResult,
    OnProgress,
    PixelBox,
    Progress,
    Provenance,
    Request,
    needed_image,
    unheard,
)
from unifiedmllm_ros.experts.classical_edit import asked_looks, told
from unifiedmllm_ros.experts.classical_looks import FILLING
from unifiedmllm_ros.experts.segmentation import MaskNetwork
from unifiedmllm_ros.masks import Mask

Image = NDArray[np.uint8]
Change = Callable[[Image, NDArray[np.bool_]], Image]

REMEDY = (
    'to replace or add something bind an expert that makes pictures, such as gligen_inpaint '
    '(`unifiedmllm experts list`)'
)
FILLED = 'Classical stand-in: filled from the surroundings, nothing was generated.'
CHANGED = 'Classical stand-in: colours were changed inside the masks, nothing was generated.'

_WORD = re.compile(r"[a-z']+")
_REMOVE = frozenset({'remove', 'delete', 'erase', 'away', 'rid', 'inpaint', 'disappear', 'vanish'})
# Whatever else is said, these ask for something that is not in the picture yet.
_CREATE = frozenset({'replace', 'add', 'put', 'insert', 'swap', 'substitute', 'draw', 'place'})
# Hue in OpenCV's half degrees; saturation and brightness of those that are no hue.
_HUES = {
    'red': 0,
    'orange': 11,
    'yellow': 28,
    'green': 60,
    'turquoise': 85,
    'cyan': 90,
    'blue': 115,
    'purple': 140,
    'violet': 138,
    'pink': 165,
    'magenta': 150,
}
_PLAIN = {'black': 0.25, 'grey': 1.0, 'gray': 1.0, 'white': 2.5}
_PAINTING_WORDS = """
are be color colored colour coloured dye from paint painted recolor recolored recolour recoloured
should tint turned
"""
_PAINTING = FILLING | frozenset(_PAINTING_WORDS.split())


@dataclass(frozen=True)
class _Plan:
    """What is to be done in each region, in the words of the provenance, and how.

    grow: by what share of the box its outline is widened, so that no rim is left.
    """

    action: str
    notice: str
    change: Change
    grow: float = 0.0


class ClassicalRegionEdit:
    """Removes or recolours what is in boxes, or gives it a look (blur, darker, ...).

    weights: of the mask network that outlines the things; without any, or with `mask: box`, whole
    boxes are changed. feather: pixels around a box that fade into the image; beyond them every
    pixel stays as it is. threads: CPU threads of the mask network.
    """

    def __init__(
        self,
        name: str,
        weights: Path | None = None,
        feather: int = 8,
        mask: str = 'network',
        threads: int = 2,
    ) -> None:
        if feather < 0 or mask not in ('network', 'box'):
            raise ConfigError(
                f'expert {name!r}: feather {feather} must not be negative, mask {mask!r} be '
                'network or box'
            )
        self.name = name
        self._feather = feather
        outlines = weights is not None and mask == 'network'
        self._network = MaskNetwork(name, weights, threads) if outlines else None

    def load(self) -> None:
        """Read the mask network. Raises ModelFileError where it is not what it should be."""
        if self._network is not None:
            self._network.load()

    def unload(self) -> None:
        """Drop the mask network."""
        if self._network is not None:
            self._network.unload()

    def run(self, request: Request, progress: OnProgress, cancel: Cancel) -> ImageResult:
        """Change the boxes one after the other; a later one sees what became of an earlier one.

        Raises ExpertError for what cannot be done without a model that makes pictures.
        """
        start = time.perf_counter()
        image = needed_image(request, self.name)
        plan = self._plan(request)
        progress(Progress('segment', 0.0))
        masks, weights = self._outlines(request, cancel)
        changed = image.copy()
        for index, (mask, box) in enumerate(zip(masks, request.boxes, strict=True)):
            check(cancel, f'expert {self.name}')
            progress(Progress('edit', (index + 1) / (len(masks) + 1)))
            _change_inside(changed, mask, box, plan, self._feather)
        progress(Progress('edit', 1.0))
        effective: dict[str, Any] = {
            'action': plan.action,
            'feather': self._feather,
            'mask': 'box' if self._network is None else 'network',
        }
        duration = (time.perf_counter() - start) * 1000
        provenance = Provenance(
            self.name,
            'classical',
            weights,
            request.seed,
            effective,
            duration,
            notices=(plan.notice,),
        )
        return ImageResult(provenance, (changed,))

    def _outlines(self, request: Request, cancel: Cancel) -> tuple[tuple[Mask | None, ...], str]:
        """The outline of the thing in each box, None for all of the box; and the weights."""
        if self._network is None:
            return (None,) * len(request.boxes), ''
        found = self._network.run(request, unheard, cancel)
        return tuple(mask if mask.area else None for mask in found.masks), found.provenance.weights

    def _plan(self, request: Request) -> _Plan:
        words = _WORD.findall(request.argument.lower())
        phrases = tuple(dict.fromkeys(box.phrase for box in request.boxes))
        if _CREATE & set(words):
            word = next(word for word in words if word in _CREATE)
            raise ExpertError(
                f'expert {self.name!r} is a classical fallback: it can remove and recolour, not '
                f'{word}; {REMEDY}'
            )
        if _REMOVE & set(words):
            return _Plan('remove', FILLED, _inpainted, grow=0.04)
        named = {word for phrase in phrases for word in _WORD.findall(phrase.lower())}
        colour = _colour(words, named)
        if colour:
            return _Plan(f'recolour {colour}', CHANGED, lambda part, _: _recoloured(part, colour))
        try:
            found = asked_looks(self.name, request.argument, phrases)
        except ExpertError as error:
            raise ExpertError(
                f'expert {self.name!r} is a classical fallback: it can remove, recolour '
                f'({", ".join((*_HUES, *_PLAIN))}) and give looks; it does not understand '
                f'{request.argument[:80]!r}; {REMEDY}'
            ) from error

        def look(part: Image, _: NDArray[np.bool_]) -> Image:
            for wish in found:
                part = wish(part)
            return part

        return _Plan(', '.join(told(found)), CHANGED, look)


def _colour(words: Sequence[str], named: set[str]) -> str:
    """The colour that an instruction asks for, '' where it asks for more than a colour."""
    colours = [word for word in words if word in _HUES or word in _PLAIN]
    rest = set(words) - set(colours) - _PAINTING - named
    # 'paint the red mug blue': the last colour is the new one.
    return '' if rest or not colours else colours[-1]


def _change_inside(
    image: Image, mask: Mask | None, box: PixelBox, plan: _Plan, feather: int
) -> None:
    """Change what the mask, or the box, covers in place; it fades out over `feather` pixels."""
    side = max(box.right - box.left, box.bottom - box.top)
    # What fills a hole comes from around it: the change sees more than it may touch.
    rows, columns = seen = _window(box, image.shape, feather + max(16, round(0.5 * side)))
    part = np.ascontiguousarray(image[rows, columns])
    allowed = _filled(_window(box, image.shape, feather), seen)
    inside = _filled(_window(box, image.shape, 0), seen)
    if mask is not None:
        inside = mask.full(*image.shape[:2])[rows, columns] & allowed
    if not inside.any():
        return
    # What is filled in fades out; around an outline a new colour would be seen as a glow.
    fade = feather if mask is None or plan.grow else min(feather, 1)
    weight = _weight(inside, max(2, round(plan.grow * side)) if plan.grow else 0, fade)
    weight[~allowed] = 0
    made = plan.change(part, weight > 0)
    mixed = np.rint(part + weight[..., None] * (made.astype(np.float32) - part))
    image[rows, columns] = np.where(weight[..., None] > 0, mixed.astype(np.uint8), part)


def _window(box: PixelBox, shape: tuple[int, ...], margin: int) -> tuple[slice, slice]:
    top, bottom = math.floor(box.top) - margin, math.ceil(box.bottom) + margin
    left, right = math.floor(box.left) - margin, math.ceil(box.right) + margin
    return slice(max(top, 0), min(bottom, shape[0])), slice(max(left, 0), min(right, shape[1]))


def _filled(window: tuple[slice, slice], seen: tuple[slice, slice]) -> NDArray[np.bool_]:
    """The pixels of `seen` that lie in `window`, which is a part of it."""
    (rows, columns), (all_rows, all_columns) = window, seen
    size = all_rows.stop - all_rows.start, all_columns.stop - all_columns.start
    inside = np.zeros(size, bool)
    top, left = all_rows.start, all_columns.start
    inside[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = True
    return inside


def _weight(inside: NDArray[np.bool_], grow: int, feather: int) -> NDArray[np.float32]:
    """1 up to `grow` pixels around what is inside, then falling to 0 over `feather` pixels."""
    distance = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.clip(1 - (distance - grow) / (feather + 1), 0, 1).astype(np.float32)


def _inpainted(part: Image, hole: NDArray[np.bool_]) -> Image:
    if hole.all():  # nothing is left to fill from: the mean colour of what was there
        return np.broadcast_to(part.mean(axis=(0, 1)).astype(np.uint8), part.shape).copy()
    bgr = np.ascontiguousarray(part[..., ::-1])
    filled = cv2.inpaint(bgr, hole.astype(np.uint8), 5, cv2.INPAINT_TELEA)
    return np.ascontiguousarray(filled[..., ::-1])


def _recoloured(part: Image, colour: str) -> Image:
    hsv = cv2.cvtColor(part, cv2.COLOR_RGB2HSV).astype(np.float32)
    if colour in _PLAIN:
        hsv[..., 1] *= 0.08
        hsv[..., 2] = 255 * (hsv[..., 2] / 255) ** (1 / _PLAIN[colour])
    else:
        hsv[..., 0] = _HUES[colour]
        # Grey things have no hue to turn: they get some colour.
        hsv[..., 1] = np.maximum(hsv[..., 1], 150)
        hsv[..., 2] = np.maximum(hsv[..., 2], 40)
    whole = np.rint(hsv).clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(whole, cv2.COLOR_HSV2RGB), np.uint8)
