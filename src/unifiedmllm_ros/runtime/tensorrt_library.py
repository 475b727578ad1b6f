"""TensorRT by either of its modules: `tensorrt` (Jetson, data centres), `tensorrt_rtx` (RTX)."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass, field
from typing import Any, Final

from unifiedmllm_ros.errors import BackendError, MissingExtraError

MODULES: Final = ('tensorrt', 'tensorrt_rtx')
"""In the order of preference where both are installed."""
EXTRA: Final = 'tensorrt'


@dataclass(frozen=True)
class Library:
    """A module of TensorRT. rtx: it compiles for GPUs that are not there, and at run time.

    said: what it logged as errors, newest last.
    """

    module: Any
    name: str
    version: str
    said: list[str] = field(default_factory=list)

    @property
    def rtx(self) -> bool:
        """Whether this is TensorRT for RTX."""
        return self.name == 'tensorrt_rtx'

    def logger(self) -> Any:
        """Return a logger that keeps errors and lets nothing else through."""
        said, severity = self.said, self.module.Logger.Severity

        class Listener(self.module.ILogger):  # type: ignore[name-defined]
            def __init__(self) -> None:
                super().__init__()

            def log(self, level: Any, message: str) -> None:
                if level in (severity.ERROR, severity.INTERNAL_ERROR):
                    said.append(message)

        return Listener()

    def last_words(self) -> str:
        """Return what was logged of the last failure, and forget it."""
        words = '; '.join(self.said[-3:]) or 'it gave no reason'
        self.said.clear()
        return words


def installed() -> tuple[str, ...]:
    """Return the modules that are there."""
    return tuple(name for name in MODULES if importlib.util.find_spec(name) is not None)


def open_library(name: str | None = None) -> Library:
    """Import TensorRT: the module `name`, by default the first that is installed.

    Raises MissingExtraError where there is none, BackendError for one that cannot start.
    """
    names = installed() if name is None else tuple(n for n in installed() if n == name)
    if not names:
        raise MissingExtraError.naming(name or 'tensorrt or tensorrt_rtx', EXTRA)
    try:
        module = importlib.import_module(names[0])
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendError(
            f'{names[0]} is installed but cannot start ({error}); install the version that fits '
            'this CUDA, or choose the backend onnxruntime'
        ) from error
    return Library(module, names[0], str(module.__version__))
