"""What an answer is made of: boxes, regions, task calls, and the response that holds them.

Every value that can be built here is valid, and writing it with `format` and reading it with
`parse` gives it back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from unifiedmllm_ros.errors import RepresentationError
from unifiedmllm_ros.escaping import escape
from unifiedmllm_ros.tasks import TASKS, TaskSpec


@dataclass(frozen=True)
class Box:
    """A box in fractions of the image's width and height, kept to three decimals as in the text.

    x1 < x2 and y1 < y2, all in [0, 1], (0, 0) the top left corner. `confidence` in [0, 1] comes
    from the probabilities of the coordinate tokens; it is no part of the text nor of equality.
    """

    x1: float
    y1: float
    x2: float
    y2: float
    confidence: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name in ('x1', 'y1', 'x2', 'y2'):
            value = float(getattr(self, name))
            # "+ 0.0" turns -0.0 into 0.0, which is written without a sign.
            object.__setattr__(self, name, round(value, 3) + 0.0)
        if not all(math.isfinite(v) and 0.0 <= v <= 1.0 for v in self.corners):
            raise RepresentationError(f'box {self.corners} is out of range: fractions in [0, 1]')
        if self.x1 >= self.x2 or self.y1 >= self.y2:
            raise RepresentationError(
                f'box {self.corners} is degenerate: x1 < x2 and y1 < y2 to three decimals'
            )
        if self.confidence is not None and not 0.0 <= self.confidence <= 1.0:
            raise RepresentationError(f'confidence {self.confidence} is not in [0, 1]')

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """(x1, y1, x2, y2)."""
        return self.x1, self.y1, self.x2, self.y2

    def pixels(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return (left, top, right, bottom) in pixels of an image of this size."""
        return self.x1 * width, self.y1 * height, self.x2 * width, self.y2 * height


@dataclass(frozen=True)
class Region:
    """A phrase and where it is: one box for each instance, at least one."""

    phrase: str
    boxes: tuple[Box, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, 'boxes', tuple(self.boxes))
        if not self.boxes:
            raise RepresentationError(f'region {self.phrase!r} has no box: give one or more')


@dataclass(frozen=True)
class TaskCall:
    """A call of an expert: task name, argument (may be empty) and the regions it works on."""

    task: str
    argument: str = ''
    regions: tuple[Region, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, 'regions', tuple(self.regions))


Part = str | Region | TaskCall


@dataclass(frozen=True)
class Response:
    """An answer: prose, plain detections and task calls in the order they were said.

    Neighbouring pieces of prose are one piece and empty ones are none, so that equal answers
    compare equal.
    """

    parts: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, 'parts', _joined(self.parts))

    @property
    def text(self) -> str:
        """The prose, without regions and calls."""
        return ''.join(part for part in self.parts if isinstance(part, str))

    @property
    def regions(self) -> tuple[Region, ...]:
        """All regions in order, those of calls included."""
        found: list[Region] = []
        for part in self.parts:
            if isinstance(part, Region):
                found.append(part)
            elif isinstance(part, TaskCall):
                found.extend(part.regions)
        return tuple(found)

    @property
    def calls(self) -> tuple[TaskCall, ...]:
        """All task calls in order."""
        return tuple(part for part in self.parts if isinstance(part, TaskCall))


def _joined(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    joined: list[Part] = []
    prose: list[str] = []
    for part in parts:
        if isinstance(part, str):
            prose.append(part)
            continue
        if any(prose):
            joined.append(''.join(prose))
        prose = []
        joined.append(part)
    if any(prose):
        joined.append(''.join(prose))
    return tuple(joined)


def format(response: Response, tasks: Mapping[str, TaskSpec] = TASKS) -> str:
    """Write a response as the one string that `parse` reads back.

    Raises RepresentationError for a call of a task that is not in `tasks`.
    """
    return ''.join(_format_part(part, tasks) for part in response.parts)


def _format_part(part: Part, tasks: Mapping[str, TaskSpec]) -> str:
    if isinstance(part, str):
        return escape(part)
    if isinstance(part, Region):
        return format_region(part)
    if part.task not in tasks:
        raise RepresentationError(
            f'task {part.task!r} is not registered: one of {", ".join(tasks)}, '
            'or add it with register_task()'
        )
    opening, closing = tasks[part.task].markers
    inside = escape(part.argument) + ''.join(format_region(region) for region in part.regions)
    return f'{opening}{inside}{closing}'


def format_region(region: Region) -> str:
    """Write one region: `<p>phrase</p>` and its boxes."""
    return f'<p>{escape(region.phrase)}</p>' + ''.join(format_box(box) for box in region.boxes)


def format_box(box: Box) -> str:
    """Write one box: `<box>[x1, y1, x2, y2]</box>`, three decimals each."""
    return '<box>[' + ', '.join(f'{value:.3f}' for value in box.corners) + ']</box>'
