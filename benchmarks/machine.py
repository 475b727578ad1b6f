"""The machine and the library versions that a figure belongs to."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    'numpy',
    'onnxruntime',
    'opencv-python-headless',
    'tokenizers',
    'torch',
    'transformers',
    'xllamacpp',
)


def describe() -> dict[str, Any]:
    """Processor, cores, memory, versions, commit and time."""
    return {
        'processor': processor(),
        'cores': os.cpu_count(),
        'memory_gib': round(memory_bytes() / 2**30, 1),
        'system': f'{platform.system()} {platform.machine()}',
        'python': platform.python_version(),
        'packages': {name: version(name) for name in PACKAGES},
        'load_average_before': os.getloadavg()[0],
        'commit': commit(),
        'time': datetime.now(UTC).isoformat(timespec='seconds'),
    }


def processor() -> str:
    """Name of the processor and the vector instructions that matter here."""
    text = Path('/proc/cpuinfo').read_text()
    fields = dict(line.split(':', 1) for line in text.split('\n\n')[0].splitlines() if ':' in line)
    names = {key.strip(): value.strip() for key, value in fields.items()}
    flags = set(names.get('flags', '').split())
    wanted = ('avx2', 'avx512f', 'avx512_bf16', 'avx512_vnni', 'amx_bf16')
    return f'{names.get("model name", "unknown")} ({" ".join(f for f in wanted if f in flags)})'


def memory_bytes() -> int:
    """Physical memory in bytes."""
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def version(name: str) -> str | None:
    """Installed version of a package, None without it."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """Short hash of the measured commit."""
    if shutil.which('git') is None:
        return None
    run = subprocess.run(
        ['git', 'rev-parse', '--short', 'HEAD'], capture_output=True, text=True, check=False
    )
    return run.stdout.strip() or None
