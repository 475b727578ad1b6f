"""What kept results depend on: the code that exports and answers, and the files of a model."""

from __future__ import annotations

import hashlib
from pathlib import Path


def state(*files: Path) -> str:
    """Return a name for the code of models and runtime and for files, another where any changed."""
    import unifiedmllm_ros

    digest = hashlib.sha256()
    package = Path(unifiedmllm_ros.__file__).parent
    code = sorted(file for part in ('model', 'runtime') for file in (package / part).glob('*.py'))
    for file in (*files, *code):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
