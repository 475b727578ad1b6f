"""What kept results depend on: the code that exports and answers, and the files of a model."""

from __future__ import annotations

import hashlib
from pathlib import Path


def state(*files: Path) -> str:
    """Return a name for the runtime's code and for files, another one where any of it changed."""
    import unifiedmllm_ros.runtime

    digest = hashlib.sha256()
    code = sorted(Path(unifiedmllm_ros.runtime.__file__).parent.glob('*.py'))
    for file in (*files, *code):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
