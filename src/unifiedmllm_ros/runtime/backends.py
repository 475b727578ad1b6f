"""Which engine runs a model: by name, or the fastest one that this machine can run.

A backend that was named runs or fails. One that was chosen here (`auto`) may turn out not to have
the memory, or a driver that is too old; then the next one is taken, and that is said aloud and
stays in the engine's state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

from unifiedmllm_ros.errors import BackendError, GpuMemoryError, ModelFileError
from unifiedmllm_ros.runtime.engine import EngineInfo
from unifiedmllm_ros.runtime.gpu import Gpu, gpus
from unifiedmllm_ros.runtime.manifest import MANIFEST_FILE, Manifest

Backend = Literal['auto', 'onnxruntime', 'onnxruntime-cuda', 'tensorrt', 'torch']
Precision = Literal['auto', 'fp32', 'fp16', 'bf16', 'int8', 'int4']
BACKENDS: Final[tuple[Backend, ...]] = get_args(Backend)
PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)
GRAPHS_FOLDER: Final = 'onnx'
Say = Callable[[str], None]
# In the order of preference. bf16 has no arithmetic in ONNX Runtime.
_PREFERRED: Final = {
    'onnxruntime': ('fp32', 'int8', 'int4', 'fp16'),
    'onnxruntime-cuda': ('fp16', 'fp32', 'int4', 'int8'),
    'tensorrt': ('fp16', 'bf16', 'int4', 'int8', 'fp32'),
}


def _log(words: str) -> None:
    logging.getLogger(__name__).warning(words)


@dataclass(frozen=True)
class Machine:
    """What decides: the GPUs, the modules of TensorRT, ONNX Runtime's providers, and whether torch
    computes on a GPU."""

    gpus: tuple[Gpu, ...]
    tensorrt: tuple[str, ...]
    providers: tuple[str, ...]
    torch: bool

    @classmethod
    def here(cls) -> Machine:
        """Ask this machine; imports torch where there is a GPU, and only there."""
        import importlib.util

        from unifiedmllm_ros.runtime.tensorrt_library import installed
        from unifiedmllm_ros.runtime.torch_engine import cuda_available

        found = gpus()
        providers: tuple[str, ...] = ()
        if importlib.util.find_spec('onnxruntime') is not None:
            import onnxruntime

            providers = tuple(onnxruntime.get_available_providers())
        return cls(found, installed(), providers, bool(found) and cuda_available())


@dataclass(frozen=True)
class Choice:
    """A backend, and the sentence that says why."""

    backend: str
    why: str


def choose(machine: Machine) -> tuple[Choice, ...]:
    """Return the backends that a machine can run, fastest first; never empty."""
    found = []
    if machine.gpus and machine.tensorrt:
        gpu = machine.gpus[0]
        found.append(Choice('tensorrt', f'{gpu.name} and {machine.tensorrt[0]} are here'))
    if machine.gpus and 'CUDAExecutionProvider' in machine.providers:
        found.append(
            Choice('onnxruntime-cuda', f'{machine.gpus[0].name} and onnxruntime-gpu are here')
        )
    without = (
        'no NVIDIA GPU answers'
        if not machine.gpus
        else 'no library that runs graphs on the GPU is installed'
    )
    found.append(Choice('onnxruntime', without if len(found) == 0 else 'it runs everywhere'))
    if machine.gpus and machine.torch:
        found.append(Choice('torch', f'{machine.gpus[0].name} and torch run models without graphs'))
    return tuple(found)


def open_engine(
    folder: Path,
    backend: str = 'auto',
    precision: str = 'auto',
    threads: int | None = None,
    say: Say | None = None,
    machine: Machine | None = None,
) -> Any:
    """Open the engine of a model folder.

    backend: one of BACKENDS. precision: which of the exported graphs, by default the best for the
    backend. threads: of the CPU. say: hears of builds, smaller profiles and fallbacks, by default
    as warnings of the log. Raises
    BackendError for a name that is none or does not run here, ModelFileError, and what the engines
    raise.
    """
    say = say or _log
    if backend not in BACKENDS:
        raise BackendError(f'backend {backend!r}: choose from {", ".join(BACKENDS)}')
    if precision not in PRECISIONS:
        raise BackendError(f'precision {precision!r}: choose from {", ".join(PRECISIONS)}')
    if backend != 'auto':
        return _open(folder, backend, precision, threads, say)
    return _first_that_fits(
        _candidates(folder, precision, machine),
        lambda name: _open(folder, name, precision, threads, say),
        say,
    )


def next_engine(
    folder: Path,
    precision: str,
    threads: int | None,
    failed: EngineInfo,
    error: GpuMemoryError,
    say: Say = _log,
    machine: Machine | None = None,
) -> Any:
    """Open what comes after an engine of `auto` that ran out of GPU memory; None after the last.

    failed: that engine. error: what it said. See open_engine for the rest.
    """
    current = 'tensorrt' if failed.backend.startswith('tensorrt') else failed.backend.split()[0]
    names = _candidates(folder, precision, machine)
    rest = names[names.index(current) + 1 :] if current in names else []
    if not rest:
        return None
    say(f'{current}: {error}; going on with {rest[0]} instead')
    engine = _first_that_fits(rest, lambda name: _open(folder, name, precision, threads, say), say)
    _note(engine, f'instead of {current}, which ran out of GPU memory')
    return engine


def _candidates(folder: Path, precision: str, machine: Machine | None) -> list[str]:
    """Name the backends that can run a model, fastest first.

    Most models are only exported for the CPU: the others are not asked for what they lack. What was
    never exported runs in torch, which takes seconds to start.
    """
    names = [choice.backend for choice in choose(machine or Machine.here())]
    found = [name for name in names if name != 'torch' and _exported(folder, name, precision)]
    if not found and 'torch' in names and _weights(folder, precision):
        return ['torch']
    # Let a model without any graphs be named by the file that is missing.
    return found if 'onnxruntime' in found else [*found, 'onnxruntime']


def _exported(folder: Path, backend: str, precision: str) -> bool:
    graphs = _graphs(folder, backend, precision)
    return graphs is not None and (graphs / MANIFEST_FILE).is_file()


def _weights(folder: Path, precision: str) -> bool:
    """Return whether torch can run a model as it was trained, in a precision that it knows."""
    return precision not in ('int8', 'int4') and (folder / 'model.safetensors').is_file()


def _first_that_fits(names: list[str], attempt: Callable[[str], Any], say: Say) -> Any:
    failed = ''
    for place, name in enumerate(names):
        try:
            engine = attempt(name)
        except (GpuMemoryError, BackendError) as error:
            if place + 1 == len(names):
                raise
            say(f'{name}: {error}; going on with {names[place + 1]} instead')
            failed = failed or f'instead of {name}, which {_what_failed(error)}'
            continue
        if failed:
            _note(engine, failed)
        return engine
    raise BackendError('no backend to choose from')


def _what_failed(error: GpuMemoryError | BackendError) -> str:
    if isinstance(error, GpuMemoryError):
        return 'had not enough GPU memory'
    return 'does not run here'


def _note(engine: Any, words: str) -> None:
    engine._info = replace(engine.info, state=f'{engine.info.state} {words}'.strip())


def _open(folder: Path, backend: str, precision: str, threads: int | None, say: Say) -> Any:
    if backend == 'torch':
        return _torch(folder, precision)
    graphs = _graphs(folder, backend, precision)
    if graphs is None:
        raise _no_graphs(folder, backend, precision)
    if backend == 'tensorrt':
        from unifiedmllm_ros.runtime.tensorrt_engine import TensorrtEngine

        return TensorrtEngine.load(graphs, say=say)
    from unifiedmllm_ros.runtime.onnx_engine import OnnxEngine

    provider = 'cuda' if backend == 'onnxruntime-cuda' else 'cpu'
    return OnnxEngine.load(graphs, threads, provider)


def _torch(folder: Path, precision: str) -> Any:
    """Open a model in torch: recorded on a GPU, the reference on the CPU."""
    from unifiedmllm_ros.runtime.captured_engine import CapturedEngine
    from unifiedmllm_ros.runtime.torch_engine import TorchEngine, cuda_available

    kind = CapturedEngine if cuda_available() else TorchEngine
    return kind.load(folder, precision)


def graphs_folder(folder: Path, target: str, precision: str) -> Path:
    """Return where the graphs of a model folder lie: onnx, onnx-int4, tensorrt-fp16 ..."""
    if target == 'onnx' and precision == 'fp32':
        return folder / GRAPHS_FOLDER
    return folder / f'{target}-{precision}'


def _graphs(folder: Path, backend: str, precision: str) -> Path | None:
    """Return the folder of graphs that a backend runs best, or that of the precision named."""
    wanted = _PREFERRED[backend] if precision == 'auto' else (precision,)
    targets = ('tensorrt', 'onnx') if backend == 'tensorrt' else ('onnx',)
    for name in wanted:
        for target in targets:
            # ONNX Runtime's own form of integer weights is none of TensorRT's.
            if backend == 'tensorrt' and target == 'onnx' and name in ('int8', 'int4'):
                continue
            place = graphs_folder(folder, target, name)
            if (place / MANIFEST_FILE).is_file() and not (
                backend == 'tensorrt' and Manifest.load(place).vision_in_int8
            ):
                return place
    # Let a model without any graphs be named by the file that is missing.
    default = folder / GRAPHS_FOLDER
    return default if backend == 'onnxruntime' and precision == 'auto' else None


def _no_graphs(folder: Path, backend: str, precision: str) -> ModelFileError:
    target = 'tensorrt' if backend == 'tensorrt' else 'onnx'
    wanted = _PREFERRED[backend][0] if precision == 'auto' else precision
    return ModelFileError(
        f'{folder}: no graphs in {wanted} for {backend}; run: unifiedmllm export {folder} '
        f'--to {target} --precision {wanted}'
    )


def check_engine(graphs: Path) -> Any:
    """Return an engine of this machine for a folder of graphs, to compare with torch.

    Raises BackendError for graphs that only a GPU runs where there is none.
    """
    from unifiedmllm_ros.runtime.onnx_engine import OnnxEngine, needs_tensorrt

    manifest = Manifest.load(graphs)
    if not needs_tensorrt(manifest):
        return OnnxEngine.load(graphs)
    from unifiedmllm_ros.runtime.tensorrt_engine import TensorrtEngine

    return TensorrtEngine.load(graphs)
