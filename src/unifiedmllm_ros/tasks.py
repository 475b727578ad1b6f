"""The registry of tasks: what a task token is called, what it carries and who does the work.

A new task is one `register_task()` call; the parser, the router and the grammar read the registry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from unifiedmllm_ros.errors import RepresentationError

GROUNDING_MARKERS = ('<p>', '</p>', '<box>', '</box>')
_NAME = re.compile(r'[a-z][a-z0-9_]{0,31}')
_RESERVED = frozenset({'p', 'box', 'bos', 'eos', 'pad', 'image', 'user', 'assistant'})


class Argument(Enum):
    """Whether the text inside a call is needed."""

    OPTIONAL = 'optional'
    REQUIRED = 'required'


@dataclass(frozen=True)
class TaskSpec:
    """One task.

    name: the word of its markers, `[a-z][a-z0-9_]*`, at most 32 characters.
    argument: whether the text before the regions is needed.
    regions: fewest and most regions a call may hold; None means any number.
    expert: the kind of expert that does the work, the key of `config/experts.yaml`.
    description: one line for people.
    image: whether the work starts from an image (or video) of the conversation.
    """

    name: str
    argument: Argument
    regions: tuple[int, int | None]
    expert: str
    description: str = ''
    image: bool = True

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name in _RESERVED:
            raise RepresentationError(
                f'task name {self.name!r} cannot be a marker: use a word like seg '
                f'(a-z, 0-9, _; at most 32 characters) that is none of {sorted(_RESERVED)}'
            )
        fewest, most = self.regions
        if fewest < 0 or (most is not None and most < fewest):
            raise RepresentationError(
                f'task {self.name!r}: regions {self.regions} must be (fewest, most), 0 <= fewest '
                '<= most, or most None for any number'
            )

    @property
    def markers(self) -> tuple[str, str]:
        """The opening and the closing marker."""
        return f'<{self.name}>', f'</{self.name}>'


class TaskRegistry(Mapping[str, TaskSpec]):
    """Tasks by name, in the order of their registration."""

    def __init__(self, specs: tuple[TaskSpec, ...] = ()) -> None:
        self._specs = {spec.name: spec for spec in specs}

    def __getitem__(self, name: str) -> TaskSpec:
        return self._specs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def register(self, spec: TaskSpec) -> None:
        """Add a task. Raises RepresentationError where the name means something else already."""
        if self._specs.setdefault(spec.name, spec) != spec:
            raise RepresentationError(
                f'task {spec.name!r} is already registered as {self._specs[spec.name]}: '
                'choose another name'
            )

    @property
    def markers(self) -> tuple[str, ...]:
        """All marker strings: the grounding markers, then two for each task."""
        return GROUNDING_MARKERS + tuple(m for spec in self.values() for m in spec.markers)


_ANY: tuple[int, int | None] = (1, None)
_NONE: tuple[int, int | None] = (0, 0)

TASKS = TaskRegistry(
    (
        TaskSpec('seg', Argument.OPTIONAL, _ANY, 'segmentation', 'segment regions of the image'),
        TaskSpec(
            'vidseg',
            Argument.OPTIONAL,
            _ANY,
            'video_segmentation',
            'segment and follow regions of the first frame through a video',
        ),
        TaskSpec('edit', Argument.REQUIRED, _NONE, 'image_edit', 'edit the whole image'),
        TaskSpec(
            'regedit',
            Argument.REQUIRED,
            _ANY,
            'region_edit',
            'replace, remove, add or recolour something in regions of the image',
        ),
        TaskSpec('gen', Argument.REQUIRED, _NONE, 'text_to_image', 'make an image', image=False),
        TaskSpec(
            'layout',
            Argument.REQUIRED,
            _ANY,
            'layout_to_image',
            'make an image with things at given places',
            image=False,
        ),
        TaskSpec('videdit', Argument.REQUIRED, _NONE, 'video_edit', 'edit a video'),
        TaskSpec('vidgen', Argument.REQUIRED, _NONE, 'text_to_video', 'make a video', image=False),
        TaskSpec('imgvid', Argument.REQUIRED, _NONE, 'image_to_video', 'bring an image to life'),
        TaskSpec('audgen', Argument.REQUIRED, _NONE, 'text_to_audio', 'make sound', image=False),
    )
)

MARKERS: tuple[str, ...] = TASKS.markers
"""The markers of the built-in tasks: exactly the added vocabulary tokens of our tokenizers."""


def register_task(spec: TaskSpec) -> None:
    """Add a task to `TASKS`. Raises RepresentationError where its name is taken."""
    TASKS.register(spec)
