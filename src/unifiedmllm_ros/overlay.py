"""Drawing an answer over its image: tinted masks, boxes with their phrases, the text below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.representation import Box

# Bright and well apart, also for most colour-blind eyes (after Okabe and Ito, 2008, and others).
PALETTE: tuple[tuple[int, int, int], ...] = (
    (0, 178, 255),
    (255, 159, 28),
    (46, 213, 115),
    (255, 84, 112),
    (178, 126, 255),
    (255, 221, 51),
    (64, 224, 208),
    (255, 128, 213),
)
_FONT = cv2.FONT_HERSHEY_DUPLEX
_INK = (18, 22, 28)
_PAPER = (250, 250, 250)
# Little enough that a red mug still looks red.
_TINT = 0.22
_CAPTION_LINES = 3

Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Pen:
    """Sizes that go with the size of the image."""

    line: int
    font: float
    pad: int

    @classmethod
    def for_image(cls, height: int, width: int) -> _Pen:
        size = min(height / 480, width / 640)
        scale = max(size, 0.45)
        return cls(max(1, round(2 * scale)), 0.52 * scale, max(2, round(5 * scale)))

    def measure(self, text: str) -> tuple[int, int, int]:
        """Width, height above and depth below the base line, in pixels."""
        (width, _), _ = cv2.getTextSize(text, _FONT, self.font, 1)
        (_, height), depth = cv2.getTextSize('Ag', _FONT, self.font, 1)
        return width, height, depth

    def write(
        self, image: NDArray[np.uint8], text: str, at: tuple[int, int], ink: tuple[int, int, int]
    ) -> None:
        cv2.putText(image, text, at, _FONT, self.font, ink, 1, cv2.LINE_AA)


def colour(index: int) -> tuple[int, int, int]:
    """Return the RGB colour of the instance at `index`, counted from 0."""
    return PALETTE[index % len(PALETTE)]


def draw(
    image: NDArray[np.uint8],
    boxes: Sequence[tuple[str, Box]],
    labels: NDArray[np.uint8] | NDArray[np.uint16] | None = None,
    caption: str = '',
) -> NDArray[np.uint8]:
    """Return a copy of an RGB image with an answer drawn over it.

    boxes: phrase and box of each instance; a box's confidence is written beside its phrase.
    labels: label map of the image's size in which label k is the mask of boxes[k - 1].
    caption: what was said, below; cut to three lines. Raises ValueError for a label map of
    another size.
    """
    height, width = image.shape[:2]
    canvas = np.array(image, dtype=np.uint8, order='C')
    pen = _Pen.for_image(height, width)
    if labels is not None:
        if labels.shape != (height, width):
            raise ValueError(f'label map is {labels.shape}, the image {(height, width)}')
        _tint(canvas, labels, pen)
    edges = [_edges(box, height, width) for _, box in boxes]
    for index, rectangle in enumerate(edges):
        _frame(canvas, rectangle, colour(index), pen)
    panel = _caption(canvas, caption, pen)
    taken: list[Rectangle] = [panel] if panel else []
    for index, (phrase, box) in enumerate(boxes):
        sure = '' if box.confidence is None else f'{box.confidence:.2f}'
        text = _drawable(f'{phrase} {sure}')
        if text:
            taken.append(_chip(canvas, text, edges[index], colour(index), pen, taken))
    return canvas


def _tint(canvas: NDArray[np.uint8], labels: NDArray[np.integer], pen: _Pen) -> None:
    """Blend every label's colour in and draw its outline."""
    for label in range(1, int(labels.max()) + 1):
        ink = colour(label - 1)
        mask = (labels == label).astype(np.uint8)
        left, top, width, height = cv2.boundingRect(mask)
        part = canvas[top : top + height, left : left + width]
        tinted = cv2.addWeighted(part, 1 - _TINT, np.full_like(part, ink), _TINT, 0.0)
        cv2.copyTo(tinted, mask[top : top + height, left : left + width], part)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.polylines(canvas, outlines, True, ink, pen.line, cv2.LINE_AA)


def _edges(box: Box, height: int, width: int) -> Rectangle:
    left, top, right, bottom = box.pixels(width, height)
    left, top = min(int(left), width - 1), min(int(top), height - 1)
    return left, top, max(left, round(right) - 1), max(top, round(bottom) - 1)


def _frame(
    canvas: NDArray[np.uint8], rectangle: Rectangle, ink: tuple[int, int, int], pen: _Pen
) -> None:
    """A line of its colour, dark on both sides so that it shows on any ground."""
    cv2.rectangle(canvas, rectangle[:2], rectangle[2:], _INK, pen.line + 2)
    cv2.rectangle(canvas, rectangle[:2], rectangle[2:], ink, pen.line)


def _chip(
    canvas: NDArray[np.uint8],
    text: str,
    box: Rectangle,
    ink: tuple[int, int, int],
    pen: _Pen,
    taken: Sequence[Rectangle],
) -> Rectangle:
    """Write a phrase on a chip of its colour, where it hides the least; returns the chip."""
    text_width, above, below = pen.measure(text)
    size = (text_width + 2 * pen.pad, above + below + pen.pad)
    left, top = _place(canvas.shape[:2], size, box, taken)
    chip = (left, top, left + size[0], top + size[1])
    cv2.rectangle(canvas, chip[:2], chip[2:], ink, cv2.FILLED, cv2.LINE_AA)
    pen.write(canvas, text, (left + pen.pad, top + above + pen.pad // 2), _INK)
    return chip


def _place(
    shape: tuple[int, ...], size: tuple[int, int], box: Rectangle, taken: Sequence[Rectangle]
) -> tuple[int, int]:
    """Choose among above, below and inside the box: inside the image, off what is there."""
    height, width = shape[:2]
    left, top, right, bottom = box
    candidates = [
        (left, top - size[1] - 1),
        (right - size[0], top - size[1] - 1),
        (left, bottom + 2),
        (right - size[0], bottom + 2),
        (left, top),
        (left, bottom - size[1]),
    ]

    def fitted(place: tuple[int, int]) -> tuple[int, int]:
        x = min(max(place[0], 0), max(width - size[0] - 1, 0))
        return x, min(max(place[1], 0), max(height - size[1] - 1, 0))

    def cost(place: tuple[int, int]) -> tuple[int, int]:
        x, y = fitted(place)
        hidden = sum(_shared((x, y, x + size[0], y + size[1]), other) for other in taken)
        return hidden, abs(x - place[0]) + abs(y - place[1])

    return fitted(min(candidates, key=cost))


def _shared(a: Rectangle, b: Rectangle) -> int:
    """Pixels that two rectangles have in common."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)


def _caption(canvas: NDArray[np.uint8], text: str, pen: _Pen) -> Rectangle | None:
    """Write the text on a dark strip along the bottom; returns the strip."""
    height, width = canvas.shape[:2]
    lines = _wrapped(_drawable(text), width - 4 * pen.pad, pen)
    if not lines:
        return None
    _, above, below = pen.measure(lines[0])
    step = above + below + pen.pad
    top = max(height - step * len(lines) - 2 * pen.pad, 0)
    strip = canvas[top:]
    cv2.addWeighted(strip, 0.25, np.full_like(strip, _INK), 0.75, 0.0, dst=strip)
    for index, line in enumerate(lines):
        base = top + pen.pad + step * index + above + pen.pad // 2
        pen.write(canvas, line, (2 * pen.pad, base), _PAPER)
    return 0, top, width, height


def _drawable(text: str) -> str:
    """One line without what has no shape; OpenCV crashes on lone surrogates."""
    return ' '.join(''.join(c if c.isprintable() else ' ' for c in text).split())


def _wrapped(text: str, width: int, pen: _Pen) -> list[str]:
    if not text:
        return []
    average = max(pen.measure(text[:200])[0] / min(len(text), 200), 1.0)
    characters = max(int(width / average), 1)
    lines = textwrap.wrap(
        text, characters, max_lines=_CAPTION_LINES, placeholder='...' if characters > 3 else ''
    )
    while characters > 1 and any(pen.measure(line)[0] > width for line in lines):
        characters -= 1
        lines = textwrap.wrap(
            text, characters, max_lines=_CAPTION_LINES, placeholder='...' if characters > 3 else ''
        )
    return lines
