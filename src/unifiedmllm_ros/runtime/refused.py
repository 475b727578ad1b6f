"""Frames whose answer was refused, kept for a report of the fault."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

FOLDER_VARIABLE: Final = 'UNIFIEDMLLM_REPORTS'
KEPT: Final = 20
"""Frames that are kept, newest first: a fault that comes at every frame fills no disk."""


def save_refused(
    image: NDArray[np.uint8], facts: dict[str, str], folder: Path | None = None
) -> str:
    """Save an RGB image and facts about it; returns words for the error's message.

    folder: by default $UNIFIEDMLLM_REPORTS or ~/.cache/unifiedmllm/reports.
    """
    if folder is None:
        named = os.environ.get(FOLDER_VARIABLE)
        folder = Path(named) if named else Path.home() / '.cache' / 'unifiedmllm' / 'reports'
    name = f'refused-{time.time_ns()}'
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f'{name}.json').write_text(json.dumps(facts, indent=2) + '\n', encoding='utf-8')
        png = cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
        (folder / f'{name}.png').write_bytes(png.tobytes())
        _forget_oldest(folder)
    except OSError as error:
        return f'the frame could not be saved for a report ({error})'
    return f'the frame was saved for a report: {folder / name}.png'


def _forget_oldest(folder: Path) -> None:
    for suffix in ('png', 'json'):
        for file in sorted(folder.glob(f'refused-*.{suffix}'))[:-KEPT]:
            file.unlink(missing_ok=True)
