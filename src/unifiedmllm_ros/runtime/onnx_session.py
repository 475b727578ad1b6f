"""Sessions of ONNX Runtime: providers by name, threads, and errors that name the remedy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from unifiedmllm_ros.errors import (
    BackendError,
    GpuMemoryError,
    MissingExtraError,
    ModelError,
    ModelFileError,
)
from unifiedmllm_ros.runtime.denormals import flushed, known

PROVIDERS: Final = {'cpu': 'CPUExecutionProvider', 'cuda': 'CUDAExecutionProvider'}
"""What a user may name, and what ONNX Runtime calls it."""
_NO_MEMORY = ('out of memory', 'failed to allocate memory', 'bad_alloc')


@dataclass(frozen=True)
class SessionOptions:
    """provider: 'cpu' or 'cuda'. threads: of one operator."""

    provider: str
    threads: int


def onnxruntime() -> Any:
    """Return the library; MissingExtraError where it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            'onnxruntime is not installed; install it with pip install onnxruntime'
        ) from error
    return onnxruntime


def check_provider(name: str, runtime: Any) -> str:
    """Return ONNX Runtime's name of a provider.

    Raises BackendError for a name that is none, and for one that this build does not have.
    """
    if name not in PROVIDERS:
        raise BackendError(
            f'onnxruntime has no provider {name!r} here: choose from {", ".join(PROVIDERS)}'
        )
    installed = runtime.get_available_providers()
    if PROVIDERS[name] not in installed:
        raise BackendError(
            f'onnxruntime {runtime.__version__} was built without {PROVIDERS[name]} (it has '
            f'{", ".join(installed)}); run: pip uninstall -y onnxruntime && '
            'pip install onnxruntime-gpu, or choose the backend onnxruntime'
        )
    return PROVIDERS[name]


def open_session(file: Path, options: SessionOptions, runtime: Any | None = None) -> Any:
    """Load a graph.

    Raises ModelFileError where ONNX Runtime cannot read it, BackendError where the provider
    cannot start, GpuMemoryError or ModelError where the weights do not fit.
    """
    runtime = onnxruntime() if runtime is None else runtime
    provider = check_provider(options.provider, runtime)
    if options.provider == 'cuda' and hasattr(runtime, 'preload_dlls'):
        runtime.preload_dlls()  # CUDA and cuDNN where pip has put them
    try:
        with flushed():  # the first session sets the thread that makes it, too
            session = runtime.InferenceSession(
                str(file), _session_options(runtime, options.threads), providers=[provider]
            )
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        if no_memory(error):
            raise _memory_error(options.provider, f'loading {file}', error) from error
        raise ModelFileError(
            f'{file}: ONNX Runtime {runtime.__version__} cannot load it ({error}); '
            'export the model again or install a newer onnxruntime'
        ) from error
    # Without a working driver ONNX Runtime says a word in its log and goes on with the CPU.
    if provider not in session.get_providers():
        raise BackendError(
            f'{provider} did not start (its log above says why: driver, CUDA or cuDNN); '
            'onnxruntime would use the CPU instead: choose that backend if it is wanted'
        )
    return session


def _session_options(runtime: Any, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    spin_while_running(options)
    if known():
        # Of the session's own threads; the thread that asks is set for each run, see `denormals`.
        options.add_session_config_entry('session.set_denormal_as_zero', '1')
    # Lengths differ from step to step: plans of memory by shape would only pile up.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return options


def spin_while_running(options: Any) -> None:
    """Let a session's idle threads look for work while a graph runs, and no longer.

    Threads that sleep between operators are woken too late. Threads that spin between runs take
    the cores from the camera, the publishers and the next graph.
    """
    options.add_session_config_entry('session.intra_op.allow_spinning', '1')
    options.add_session_config_entry('session.force_spinning_stop', '1')


def failed(error: Exception, graph: str, provider: str) -> Exception:
    """Return the error of this package for one that a run gave."""
    if no_memory(error):
        return _memory_error(provider, f'the {graph} graph', error)
    return ModelError(f'the {graph} graph failed in ONNX Runtime: {error}')


def no_memory(error: Exception) -> bool:
    """Return whether an error of a library says that memory ran out."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY)


def _memory_error(provider: str, what: str, error: Exception) -> Exception:
    remedy = 'choose a smaller model, int8 or int4 weights, or a shorter max_length'
    if provider == 'cuda':
        return GpuMemoryError(f'{what}: out of GPU memory ({error}); {remedy}, or the CPU')
    return ModelError(f'{what}: out of memory ({error}); {remedy}')
