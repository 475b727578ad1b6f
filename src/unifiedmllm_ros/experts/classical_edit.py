"""Edits of a whole image without a trained model: colours and filters, a classical fallback."""

from __future__ import annotations

import time
from pathlib import Path

from unifiedmllm_ros.cancellation import Cancel, check
from unifiedmllm_ros.errors import ConfigError, ExpertError
from unifiedmllm_ros.experts.base import (
    ImageResult,
    OnProgress,
    Progress,
    Provenance,
    Request,
    needed_image,
)
from unifiedmllm_ros.experts.classical_looks import Wish, wishes

NOTICE = 'Classical stand-in: colours and filters were changed, no model has looked at the image.'
REMEDY = (
    'for anything else bind an expert that follows free instructions, such as instruct_pix2pix '
    '(`unifiedmllm experts list`)'
)


class ClassicalEdit:
    """Looks by name: brighter, night, black and white, sepia, sketch, cartoon ..."""

    def __init__(self, name: str, weights: Path | None = None) -> None:
        if weights is not None:
            raise ConfigError(f'expert {name!r} has no weights: remove {weights} in experts.yaml')
        self.name = name

    def load(self) -> None:
        """There is nothing to load."""

    def unload(self) -> None:
        """There is nothing to unload."""

    def run(self, request: Request, progress: OnProgress, cancel: Cancel) -> ImageResult:
        """Give the image the looks that the instruction names, one after the other.

        Raises ExpertError for an instruction that is about anything else.
        """
        start = time.perf_counter()
        image = needed_image(request, self.name)
        found = asked_looks(self.name, request.argument)
        for index, wish in enumerate(found):
            check(cancel, f'expert {self.name}')
            progress(Progress('edit', index / len(found)))
            image = wish(image)
        progress(Progress('edit', 1.0))
        provenance = Provenance(
            self.name,
            'classical',
            '',
            request.seed,
            {'looks': told(found)},
            (time.perf_counter() - start) * 1000,
            notices=(NOTICE,),
        )
        return ImageResult(provenance, (image,))


def asked_looks(name: str, instruction: str, also: tuple[str, ...] = ()) -> tuple[Wish, ...]:
    """Return the looks that an instruction to the expert `name` asks for. Raises ExpertError."""
    try:
        return wishes(instruction, also)
    except ExpertError as error:
        raise ExpertError(
            f'expert {name!r} is a classical fallback: its {error}; {REMEDY}'
        ) from error


def told(found: tuple[Wish, ...]) -> list[str]:
    """Return looks as provenance shows them."""
    return [f'{wish.look.name} x{wish.amount:g}' for wish in found]
