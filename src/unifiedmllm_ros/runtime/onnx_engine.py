"""The engine of ONNX Runtime: CPUs, and NVIDIA GPUs by its CUDA provider."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from unifiedmllm_ros.errors import BackendError, InstructionError, ModelError, ModelFileError
from unifiedmllm_ros.runtime.denormals import flushed
from unifiedmllm_ros.runtime.engine import Array, EngineInfo, Row, check_medium, check_rows
from unifiedmllm_ros.runtime.manifest import Manifest
from unifiedmllm_ros.runtime.memory import check_main_memory
from unifiedmllm_ros.runtime.onnx_decoder import OnnxDecoder
from unifiedmllm_ros.runtime.onnx_session import (
    SessionOptions,
    check_provider,
    failed,
    onnxruntime,
    open_session,
)

_ENCODERS: Final = {'vision': 'pixels', 'video': 'frames', 'audio': 'waves'}
_MOST_THREADS = 4  # a small model gains nothing from more


class OnnxEngine:
    """Runs the exported graphs in ONNX Runtime. See Engine for its methods."""

    def __init__(
        self, folder: Path, manifest: Manifest, provider: str, threads: int, runtime: Any = None
    ) -> None:
        """Open the graphs of a folder; `load` is the usual way."""
        self._runtime = onnxruntime() if runtime is None else runtime
        self._folder = folder
        self._manifest = manifest
        self._options = SessionOptions(provider, threads)
        self._encoders: dict[str, Any] = {'vision': self._open_encoder('vision')}
        self._decoder = self._open_decoder()
        self._info = EngineInfo(
            backend=f'onnxruntime{"" if provider == "cpu" else f"-{provider}"} '
            f'{self._runtime.__version__}',
            precision=manifest.arithmetic,
            model=manifest.model,
            device='cpu' if provider == 'cpu' else 'cuda:0',
            max_length=manifest.max_length,
            shares_prefixes=True,
        )

    @classmethod
    def load(cls, folder: str | Path, threads: int | None = None, provider: str = 'cpu') -> Self:
        """Load the graphs that a manifest.json in `folder` describes.

        threads: of one operator; by default one for each core, at most four.
        provider: 'cpu' or 'cuda'.
        Raises ModelFileError, naming the file and the remedy, where a file is missing, damaged or
        does not belong to this version; BackendError for a provider that is not there, and for
        graphs that ONNX Runtime does not run.
        """
        folder = Path(folder)
        runtime = onnxruntime()
        check_provider(provider, runtime)
        manifest = Manifest.load(folder)
        _check_precision(folder, manifest)
        if provider == 'cpu':
            check_main_memory(manifest)
        threads = threads or min(os.cpu_count() or 1, _MOST_THREADS)
        engine = cls(folder, manifest, provider, threads, runtime)
        engine._check_shapes()
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
        return self.encode_images(pixels)[0]

    def encode_images(self, pixels: Array) -> Array:
        """Turn pixels [B, 3, H, W] (RGB in 0..1) into visual tokens [B, N, D]."""
        return self._encode('vision', pixels)

    def encode_video(self, frames: Array) -> Array:
        """Turn frames [F, 3, H, W] into tokens [N, D]; ConfigError without a video branch."""
        shape = self._manifest.video
        check_medium(
            self._manifest.model, 'video', (shape.frames,) if shape else None, frames.shape[:1]
        )
        return self._encode('video', frames)[0]

    def encode_audio(self, wave: Array) -> Array:
        """Turn a segment [samples] in -1..1 into tokens [N, D]; ConfigError without a branch."""
        shape = self._manifest.audio
        wanted = (shape.samples,) if shape else None
        check_medium(self._manifest.model, 'audio', wanted, wave.shape)
        return self._encode('audio', wave[None])[0]

    def new_cache(self) -> Any:
        """Return a cache of the empty sequence."""
        return self._decoder.new_cache()

    def step(
        self,
        ids: Sequence[int],
        cache: Any,
        features: Array | None = None,
        last: int | None = None,
    ) -> Array:
        """Append to one sequence; see Engine.step."""
        return self.step_all([Row.after(features, ids, cache, last)])[0]

    def step_all(self, rows: Sequence[Row]) -> list[Array]:
        """Append to sequences; see Engine.step_all."""
        check_rows(self._info, rows)
        return self._decoder.step(rows)

    def _open_encoder(self, name: str) -> Any:
        session = open_session(
            self._manifest.graph(self._folder, name), self._options, self._runtime
        )
        self._check_names(session, name, ((_ENCODERS[name],), ('features',)))
        return session

    def _open_decoder(self) -> OnnxDecoder:
        manifest, options = self._manifest, self._options
        file = manifest.graph(self._folder, 'decoder')
        session = open_session(file, options, self._runtime)
        self._check_names(session, 'decoder', OnnxDecoder.names(manifest))
        return OnnxDecoder(session, manifest, options.provider, self._runtime)

    def _check_names(
        self, session: Any, graph: str, names: tuple[tuple[str, ...], tuple[str, ...]]
    ) -> None:
        found = tuple(
            tuple(value.name for value in values)
            for values in (session.get_inputs(), session.get_outputs())
        )
        if found != names:
            file = self._folder / self._manifest.graphs[graph].file
            raise ModelFileError(
                f'{file}: inputs and outputs {found}, this version needs {names}; '
                'export the model again with this version'
            )

    def _encode(self, name: str, values: Array) -> Array:
        if name not in self._encoders:
            self._encoders[name] = self._open_encoder(name)
        try:
            with flushed():
                (features,) = self._encoders[name].run(None, {_ENCODERS[name]: values})
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise failed(error, name, self._options.provider) from error
        return np.asarray(features)

    def _check_shapes(self) -> None:
        """Try the graphs once: a manifest of another model shows here, not at the first question.

        It also lets ONNX Runtime set up its memory before the first question.
        """
        manifest = self._manifest
        try:
            features = self.encode_image(np.zeros((1, 3, *manifest.image_size), np.float32))
            logits = self.step([0], self.new_cache(), features)
        except (ModelError, InstructionError) as error:
            raise ModelFileError(f'{self._folder}: {error}; export the model again') from error
        expected = (manifest.visual_tokens, manifest.hidden), (1, manifest.vocab)
        if (features.shape, logits.shape) != expected:
            raise ModelFileError(
                f'{self._folder}: the graphs give visual tokens {features.shape} and logits '
                f'{logits.shape}, the manifest says {expected}; export the model again'
            )


def needs_tensorrt(manifest: Manifest) -> bool:
    """Return whether ONNX Runtime cannot compute graphs, or not in their form."""
    integers = manifest.precision in ('int8', 'int4')
    return manifest.precision == 'bf16' or (manifest.target == 'tensorrt' and integers)


def _check_precision(folder: Path, manifest: Manifest) -> None:
    if needs_tensorrt(manifest):
        raise BackendError(
            f'{folder}: graphs in {manifest.precision} for TensorRT, which ONNX Runtime does not '
            'compute; use the backend tensorrt, or export the model with --to onnx in fp32, fp16, '
            'int8 or int4'
        )
