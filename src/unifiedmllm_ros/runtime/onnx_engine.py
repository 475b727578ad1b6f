"""The engine of CPUs: ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from unifiedmllm_ros.errors import InstructionError, MissingExtraError, ModelError, ModelFileError
from unifiedmllm_ros.runtime.engine import Array, EngineInfo
from unifiedmllm_ros.runtime.manifest import Manifest

_VISION: Final = (('pixels',), ('features',))
_DECODER: Final = (
    ('input_ids', 'features', 'past_k', 'past_v'),
    ('logits', 'present_k', 'present_v'),
)
_MOST_THREADS = 4  # a small model gains nothing from more
_SMALL = 64 << 20  # bytes of a decoder that one thread runs best


class OnnxCache:
    """Keys and values [layers, 1, heads, length, head_dim], replaced as a whole by each step.

    The graph returns the grown arrays and they are never written to, so forks share them.
    """

    def __init__(self, keys: Array, values: Array) -> None:
        self.keys = keys
        self.values = values

    @property
    def length(self) -> int:
        """Positions held."""
        return int(self.keys.shape[3])

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on."""
        if not 0 <= length <= self.length:
            raise ValueError(f'cannot truncate a cache of {self.length} positions to {length}')
        if length < self.length:
            self.keys = np.ascontiguousarray(self.keys[:, :, :, :length])
            self.values = np.ascontiguousarray(self.values[:, :, :, :length])

    def fork(self) -> OnnxCache:
        """Return a cache of the same sequence that goes its own way."""
        return OnnxCache(self.keys, self.values)


class OnnxEngine:
    """Runs vision.onnx and decoder.onnx on the CPU."""

    def __init__(self, manifest: Manifest, vision: Any, decoder: Any, backend: str) -> None:
        self._manifest = manifest
        self._vision = vision
        self._decoder = decoder
        self._no_features = np.zeros((1, 0, manifest.hidden), np.float32)
        self._info = EngineInfo(
            backend=backend,
            precision=manifest.precision,
            model=manifest.model,
            device='cpu',
            max_length=manifest.max_length,
        )

    @classmethod
    def load(cls, folder: str | Path, threads: int | None = None) -> Self:
        """Load the graphs that a manifest.json in `folder` describes.

        threads: of one operator; by default one for each core, at most four. A small decoder
        always takes one: in a step of a millisecond, waking a second thread costs more than it
        does. Raises ModelFileError, naming the file and the remedy, where a file is missing,
        damaged or does not belong to this version.
        """
        folder = Path(folder)
        manifest = Manifest.load(folder)
        runtime = _onnxruntime()
        threads = threads or min(os.cpu_count() or 1, _MOST_THREADS)
        vision = _session(runtime, manifest.graph(folder, 'vision'), _VISION, threads)
        file = manifest.graph(folder, 'decoder')
        small = manifest.graphs['decoder'].bytes < _SMALL
        decoder = _session(runtime, file, _DECODER, 1 if small else threads)
        engine = cls(manifest, vision, decoder, f'onnxruntime {runtime.__version__}')
        engine._check_shapes(folder)
        return engine

    @property
    def info(self) -> EngineInfo:
        """What runs."""
        return self._info

    @property
    def manifest(self) -> Manifest:
        """What the graphs are."""
        return self._manifest

    def encode_image(self, pixels: Array) -> Array:
        """Turn pixels [1, 3, H, W] (RGB in 0..1) into visual tokens [N, D]."""
        (features,) = _run(self._vision, {'pixels': pixels}, 'vision')
        return np.asarray(features[0])

    def new_cache(self) -> OnnxCache:
        """Return a cache of the empty sequence."""
        shape = self._manifest
        empty = np.zeros((shape.layers, 1, shape.kv_heads, 0, shape.head_dim), np.float32)
        return OnnxCache(empty, empty)

    def step(self, ids: Sequence[int], cache: OnnxCache, features: Array | None = None) -> Array:
        """Append visual tokens and ids to the cached sequence; see Engine.step."""
        if not ids:
            raise ValueError('a step needs one token or more')
        rows = self._no_features if features is None else features[None]
        length = cache.length + rows.shape[1] + len(ids)
        if length > self._info.max_length:
            raise InstructionError(
                f'the conversation takes {length} positions, {self._info.model} has '
                f'{self._info.max_length}; shorten the instruction or begin a new conversation'
            )
        feeds = {
            'input_ids': np.asarray([ids], np.int64),
            'features': rows,
            'past_k': cache.keys,
            'past_v': cache.values,
        }
        logits, keys, values = _run(self._decoder, feeds, 'decoder')
        cache.keys, cache.values = keys, values
        return np.asarray(logits[0, -len(ids) :])

    def _check_shapes(self, folder: Path) -> None:
        """Try the graphs once: a manifest of another model shows here, not at the first question.

        It also lets ONNX Runtime set up its memory before the first question.
        """
        manifest = self._manifest
        try:
            features = self.encode_image(np.zeros((1, 3, *manifest.image_size), np.float32))
            logits = self.step([0], self.new_cache(), features)
        except (ModelError, InstructionError) as error:
            raise ModelFileError(f'{folder}: {error}; export the model again') from error
        expected = (manifest.visual_tokens, manifest.hidden), (1, manifest.vocab)
        if (features.shape, logits.shape) != expected:
            raise ModelFileError(
                f'{folder}: the graphs give visual tokens {features.shape} and logits '
                f'{logits.shape}, the manifest says {expected}; export the model again'
            )


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            'onnxruntime is not installed; install it with pip install onnxruntime'
        ) from error
    return onnxruntime


def _session(
    runtime: Any, file: Path, names: tuple[tuple[str, ...], tuple[str, ...]], threads: int
) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads would take the cores from the camera and the publishers between steps.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    # Lengths differ from step to step: plans of memory by shape would only pile up.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(str(file), options, providers=['CPUExecutionProvider'])
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise ModelFileError(
            f'{file}: ONNX Runtime {runtime.__version__} cannot load it ({error}); '
            'export the model again or install a newer onnxruntime'
        ) from error
    found = tuple(
        tuple(value.name for value in values)
        for values in (session.get_inputs(), session.get_outputs())
    )
    if found != names:
        raise ModelFileError(
            f'{file}: inputs and outputs {found}, this version needs {names}; '
            'export the model again with this version'
        )
    return session


def _run(session: Any, feeds: dict[str, Any], graph: str) -> list[Any]:
    try:
        outputs: list[Any] = session.run(None, feeds)
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise ModelError(f'the {graph} graph failed in ONNX Runtime: {error}') from error
    return outputs
