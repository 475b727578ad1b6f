"""What is installed, which backend will run and why, and what would make it faster."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from unifiedmllm_ros.errors import ModelFileError
from unifiedmllm_ros.locations import share_folders
from unifiedmllm_ros.runtime.backends import Choice, Machine, choose
from unifiedmllm_ros.runtime.manifest import MANIFEST_FILE, Manifest

PACKAGES: Final = (
    'onnxruntime',
    'onnxruntime-gpu',
    'tensorrt',
    'tensorrt-rtx-cu13',
    'torch',
    'transformers',
    'onnx',
    'onnxscript',
    'peft',
)
Line = tuple[str, str]
Recommend = Callable[[Machine], Sequence[Line]]
_RTX: Final = ((7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1))
"""Compute capabilities that TensorRT for RTX builds for."""


@dataclass(frozen=True)
class Diagnosis:
    """lines: (what, finding). chosen: the backend. faster: the one command, '' where there is
    nothing to gain."""

    lines: tuple[Line, ...]
    chosen: Choice
    faster: str


def diagnose(machine: Machine | None = None, recommend: Recommend | None = None) -> Diagnosis:
    """Examine a machine, by default this one.

    recommend: gives lines on models that suit the machine.
    """
    machine = machine or Machine.here()
    chosen = choose(machine)[0]
    lines = [('python', platform.python_version()), *_packages(), *_gpus(machine)]
    lines.append(("onnxruntime's providers", ', '.join(machine.providers) or 'none'))
    lines.append(('backend', f'{chosen.backend}: {chosen.why}'))
    lines += _models()
    lines += recommend(machine) if recommend else ()
    return Diagnosis(tuple(lines), chosen, faster(machine))


def faster(machine: Machine) -> str:
    """Return the one command that would make models faster here; '' for none."""
    if not machine.gpus:
        return ''
    gpu = machine.gpus[0]
    if not machine.tensorrt:
        if gpu.integrated:
            return 'sudo apt-get install python3-libnvinfer'
        if gpu.capability in _RTX:
            return "pip install 'unifiedmllm_ros[tensorrt]'"
        return 'pip install tensorrt'
    return ''


def _models() -> list[Line]:
    """Say in what precision the models of the package were exported."""
    found: dict[tuple[str, str], Line] = {}
    for folder in share_folders():
        for file in sorted(folder.glob(f'models/*/*/{MANIFEST_FILE}')):
            name, graphs = file.parent.parent.name, file.parent.name
            found.setdefault((name, graphs), (name, f'{graphs}: {_exported(file)}'))
    return list(found.values())


def _exported(file: Path) -> str:
    try:
        manifest = Manifest.load(file.parent)
    except ModelFileError as error:
        return str(error)
    return f'{manifest.arithmetic}, {manifest.weights_bytes / 2**20:.0f} MiB'


def _packages() -> list[Line]:
    return [(name, _version(name) or 'not installed') for name in PACKAGES]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _gpus(machine: Machine) -> list[Line]:
    if not machine.gpus:
        return [('gpu', 'none: no NVIDIA driver answers')]
    lines = [
        (
            f'gpu {gpu.index}',
            f'{gpu.name}, compute capability {gpu.capability_name}, '
            f'{gpu.memory / 2**30:.1f} GiB{" shared with the processor" if gpu.integrated else ""}',
        )
        for gpu in machine.gpus
    ]
    return [*lines, ('driver', f'runs CUDA up to {".".join(map(str, machine.gpus[0].driver))}')]
