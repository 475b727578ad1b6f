"""Looks that need nothing learnt, such as night or sketch, and the words that ask for them.

An instruction is understood whole or not at all: a word that is neither a look, nor how much of it,
nor filling, belongs to a wish that colours and filters cannot fulfil.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.errors import ExpertError

Image = NDArray[np.uint8]
Apply = Callable[[Image, float], Image]

_WORD = re.compile(r"[a-z']+")
_FILLING_WORDS = """
a again all also an and as at bit but by can change could effect filter give having i if image in
instead into is it its like lit look looking looks make me now of old one out photo photograph
picture please render scene show so some style taken that the them then this to too turn up want
whole with would you
"""
FILLING = frozenset(_FILLING_WORDS.split())
"""Words that say nothing about what is wanted."""

_AMOUNTS = {
    'slightly': 0.5,
    'little': 0.5,
    'somewhat': 0.7,
    'very': 1.5,
    'much': 1.5,
    'lot': 1.5,
    'strongly': 1.5,
    'more': 1.0,
}
_OPPOSITE = {'less'}


@dataclass(frozen=True)
class Look:
    """One look: its name, the phrases that ask for it, its opposite, and how it is made.

    apply: takes (height, width, 3) uint8 RGB and an amount, 1 for the usual one.
    """

    name: str
    phrases: tuple[str, ...]
    apply: Apply
    opposite: str = ''


@dataclass(frozen=True)
class Wish:
    """A look and how much of it."""

    look: Look
    amount: float = 1.0

    def __call__(self, image: Image) -> Image:
        """Return the image with the look."""
        return self.look.apply(image, self.amount)


def wishes(instruction: str, also: Iterable[str] = ()) -> tuple[Wish, ...]:
    """Return the looks that an instruction asks for, in the order of its words.

    also: words that may stand in it too, such as the name of the thing.
    Raises ExpertError where it asks for none, or for more than looks.
    """
    words = _WORD.findall(instruction.lower())
    known = {word for phrase in also for word in _WORD.findall(phrase.lower())}
    found: list[Wish] = []
    unknown: list[str] = []
    amount, opposite, at = 1.0, False, 0
    while at < len(words):
        look, length = _look_at(words, at)
        if look is not None:
            chosen = LOOKS[look.opposite] if opposite and look.opposite else look
            found.append(Wish(chosen, amount))
            amount, opposite = 1.0, False
        elif words[at] in _AMOUNTS:
            amount = _AMOUNTS[words[at]]
        elif words[at] in _OPPOSITE:
            opposite = True
        elif words[at] not in FILLING and words[at] not in known:
            unknown.append(words[at])
        at += length
    if unknown or not found:
        what = f'not {unknown[0]!r}' if unknown else 'and the instruction names none'
        raise ExpertError(f'looks are {", ".join(LOOKS)}, {what} ({_short(instruction)})')
    return tuple(found)


def _look_at(words: list[str], at: int) -> tuple[Look | None, int]:
    for length in (3, 2, 1):
        if look := _BY_PHRASE.get(' '.join(words[at : at + length])):
            return look, min(length, len(words) - at)
    return None, 1


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:79] + '…')


def _gain(image: Image, factor: float, gamma: float = 1.0) -> Image:
    levels = np.arange(256) / 255.0
    table = (np.clip(factor * levels**gamma, 0, 1) * 255).round().astype(np.uint8)
    return np.asarray(cv2.LUT(image, table), np.uint8)


def _mixed(image: Image, made: NDArray[np.float32]) -> Image:
    return np.asarray(np.rint(made).clip(0, 255), np.uint8).reshape(image.shape)


def _tinted(image: Image, gains: tuple[float, float, float]) -> Image:
    return _mixed(image, image.astype(np.float32) * np.array(gains, np.float32))


def _saturated(image: Image, factor: float) -> Image:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None]
    return _mixed(image, grey + (image.astype(np.float32) - grey) * factor)


def _contrasted(image: Image, factor: float) -> Image:
    values = image.astype(np.float32)
    return _mixed(image, (values - 127.5) * factor + 127.5)


def _grey(image: Image, amount: float) -> Image:
    return np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB))


def _night(image: Image, amount: float) -> Image:
    dark = _gain(_saturated(image, 0.6), 0.45 / max(amount, 0.1) ** 0.5, 1.3)
    return _tinted(dark, (0.75, 0.85, 1.25))


def _sepia(image: Image, amount: float) -> Image:
    rows = ((0.393, 0.769, 0.189), (0.349, 0.686, 0.168), (0.272, 0.534, 0.131))
    return _mixed(image, image.astype(np.float32) @ np.array(rows, np.float32).T)


def _sketch(image: Image, amount: float) -> Image:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    soft = cv2.GaussianBlur(grey, (0, 0), _radius(image, 0.012))
    lines = cv2.divide(grey, np.maximum(soft, 1), scale=255)
    return np.asarray(cv2.cvtColor(lines, cv2.COLOR_GRAY2RGB), np.uint8)


def _cartoon(image: Image, amount: float) -> Image:
    flat = image
    for _ in range(3):
        flat = np.asarray(cv2.bilateralFilter(flat, 7, 30 * amount, 7), np.uint8)
    grey = cv2.medianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 5)
    edges = cv2.adaptiveThreshold(
        grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, blockSize=9, C=4
    )
    return np.asarray(np.where(edges[..., None] > 0, flat, flat // 4), np.uint8)


def _painting(image: Image, amount: float) -> Image:
    smooth = cv2.stylization(np.ascontiguousarray(image[..., ::-1]), sigma_s=60, sigma_r=0.45)
    return np.ascontiguousarray(smooth[..., ::-1])


def _blurred(image: Image, amount: float) -> Image:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), _radius(image, 0.02 * amount)), np.uint8)


def _sharp(image: Image, amount: float) -> Image:
    values = image.astype(np.float32)
    soft = cv2.GaussianBlur(values, (0, 0), max(_radius(image, 0.003), 1.0))
    return _mixed(image, values + amount * (values - soft))


def _radius(image: Image, share: float) -> float:
    return max(share * max(image.shape[:2]), 0.5)


def _pixelated(image: Image, amount: float) -> Image:
    height, width = image.shape[:2]
    cells = max(1, round(24 / amount))
    size = (min(width, cells), max(1, min(height, round(cells * height / width))))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


LOOKS: dict[str, Look] = {
    look.name: look
    for look in (
        Look(
            'brighter',
            ('brighter', 'bright', 'brighten', 'lighter', 'lighten'),
            lambda image, amount: _gain(image, 1 + 0.15 * amount, 0.85),
            'darker',
        ),
        Look(
            'darker',
            ('darker', 'dark', 'darken', 'dim', 'dimmer'),
            lambda image, amount: _gain(image, 1 - 0.3 * min(amount, 3), 1.1),
            'brighter',
        ),
        Look('night', ('night', 'nighttime', 'night time', 'midnight'), _night),
        Look(
            'warmer',
            ('warmer', 'warm', 'sunset', 'golden hour'),
            lambda image, amount: _tinted(image, (1 + 0.12 * amount, 1.0, 1 - 0.15 * amount)),
            'colder',
        ),
        Look(
            'colder',
            ('colder', 'cold', 'cooler', 'cool'),
            lambda image, amount: _tinted(image, (1 - 0.15 * amount, 1.0, 1 + 0.12 * amount)),
            'warmer',
        ),
        Look(
            'black and white',
            (
                'black and white',
                'black white',
                'grayscale',
                'greyscale',
                'gray scale',
                'grey',
                'gray',
                'monochrome',
            ),
            _grey,
        ),
        Look('sepia', ('sepia', 'vintage'), _sepia),
        Look('sketch', ('sketch', 'pencil drawing', 'pencil sketch', 'drawing'), _sketch),
        Look('cartoon', ('cartoon', 'comic', 'cartoonish'), _cartoon),
        Look('painting', ('painting', 'watercolor', 'watercolour', 'oil painting'), _painting),
        Look('blur', ('blur', 'blurry', 'blurred', 'soft', 'softer', 'out of focus'), _blurred),
        Look('sharpen', ('sharpen', 'sharp', 'sharper', 'crisp'), _sharp, 'blur'),
        Look('pixelate', ('pixelate', 'pixelated', 'pixel art'), _pixelated),
        Look(
            'more contrast',
            ('contrast', 'contrasty'),
            lambda image, amount: _contrasted(image, 1 + 0.3 * amount),
            'less contrast',
        ),
        Look(
            'less contrast',
            ('flat', 'flatter', 'hazy'),
            lambda image, amount: _contrasted(image, 1 / (1 + 0.4 * amount)),
            'more contrast',
        ),
        Look(
            'more colourful',
            ('colourful', 'colorful', 'vivid', 'vibrant', 'saturated', 'colour', 'color'),
            lambda image, amount: _saturated(image, 1 + 0.5 * amount),
            'less colourful',
        ),
        Look(
            'less colourful',
            ('muted', 'pale', 'faded', 'desaturated', 'washed out'),
            lambda image, amount: _saturated(image, 1 / (1 + amount)),
            'more colourful',
        ),
        Look(
            'inverted',
            ('invert', 'inverted', 'negative'),
            lambda image, amount: np.asarray(255 - image, np.uint8),
        ),
    )
}
"""The looks by name, in the order they are told in."""

_BY_PHRASE = {phrase: look for look in LOOKS.values() for phrase in look.phrases}
