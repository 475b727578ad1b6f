"""The engine of NVIDIA GPUs: TensorRT, by either of its modules, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from unifiedmllm_ros.errors import BackendError
from unifiedmllm_ros.runtime.cuda import Cuda, CudaRuntime
from unifiedmllm_ros.runtime.engine import Array, EngineInfo, Row, check_medium, check_rows
from unifiedmllm_ros.runtime.engine_cache import EngineCache
from unifiedmllm_ros.runtime.gpu import gpus
from unifiedmllm_ros.runtime.manifest import Manifest
from unifiedmllm_ros.runtime.slots import SlotCache
from unifiedmllm_ros.runtime.tensorrt_build import MOST_IMAGES, Say
from unifiedmllm_ros.runtime.tensorrt_decoder import TensorrtDecoder
from unifiedmllm_ros.runtime.tensorrt_library import Library, open_library
from unifiedmllm_ros.runtime.tensorrt_plans import Plan, Plans, check_gpu_memory, with_less_memory
from unifiedmllm_ros.runtime.tensorrt_session import Session, Slot

_INPUTS: Final = {'vision': 'pixels', 'video': 'frames', 'audio': 'waves'}


class TensorrtEngine:
    """Runs engines that were built of the exported graphs. See Engine for its methods."""

    def __init__(self, plans: Plans, cuda: Cuda, rebuild: bool = False) -> None:
        """Read the engines of vision and decoder back, building those that are missing.

        Raises EngineFileError, GpuMemoryError, BackendError, ModelFileError.
        """
        self._plans, self._cuda, self._rebuild = plans, cuda, rebuild
        self._encoders: dict[str, _Encoder] = {}
        self.built = False
        self._encoder('vision')
        plan = self._plan('decoder')
        assert plan.profile is not None
        session = Session('decoder', plan.content, plans.library, cuda)
        self._decoder = TensorrtDecoder(session, plans.manifest, plan.profile)
        manifest = plans.manifest
        self._info = EngineInfo(
            backend=f'{plans.library.name} {plans.library.version}',
            precision=manifest.precision,
            model=manifest.model,
            device='cuda:0',
            max_length=min(manifest.max_length, plan.profile.capacity),
            state='built' if self.built else 'from the cache',
        )

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        say: Say = print,
        rebuild: bool = False,
        cache: EngineCache | None = None,
        library: Library | None = None,
    ) -> TensorrtEngine:
        """Load the graphs of a folder onto this machine's first GPU.

        say: hears of builds and of smaller profiles. rebuild: replace engines that cannot be used.
        Raises BackendError without a GPU, a driver or TensorRT; EngineFileError for a cache that
        cannot be written and for engines that must be rebuilt; GpuMemoryError.
        """
        found = gpus()
        if not found:
            raise BackendError(
                'tensorrt needs an NVIDIA GPU and its driver, and none answers; choose the backend '
                'onnxruntime'
            )
        cache = cache or EngineCache.open()  # before anything that takes long
        plans = Plans(Path(folder), cache, found[0].capability_name, say, library or open_library())
        cuda = CudaRuntime()

        def attempt(capacity: int) -> TensorrtEngine:
            check_gpu_memory(plans.manifest, found[0], capacity)
            return cls(plans.shorter(capacity), cuda, rebuild)

        return with_less_memory(attempt, plans.manifest.max_length, say)

    @property
    def info(self) -> EngineInfo:
        """What runs."""
        return self._info

    @property
    def manifest(self) -> Manifest:
        """What the graphs are."""
        return self._plans.manifest

    def encode_image(self, pixels: Array) -> Array:
        """Turn pixels [1, 3, H, W] (RGB in 0..1) into visual tokens [N, D]."""
        return self.encode_images(pixels)[0]

    def encode_images(self, pixels: Array) -> Array:
        """Turn pixels [B, 3, H, W] (RGB in 0..1) into visual tokens [B, N, D]."""
        encoder = self._encoder('vision')
        starts = range(0, len(pixels), MOST_IMAGES)
        return np.concatenate([encoder(pixels[start : start + MOST_IMAGES]) for start in starts])

    def encode_video(self, frames: Array) -> Array:
        """Turn frames [F, 3, H, W] into tokens [N, D]; ConfigError without a video branch."""
        shape = self.manifest.video
        wanted = (shape.frames,) if shape else None
        check_medium(self.manifest.model, 'video', wanted, frames.shape[:1])
        return self._encoder('video')(frames)[0]

    def encode_audio(self, wave: Array) -> Array:
        """Turn a segment [samples] in -1..1 into tokens [N, D]; ConfigError without a branch."""
        shape = self.manifest.audio
        wanted = (shape.samples,) if shape else None
        check_medium(self.manifest.model, 'audio', wanted, wave.shape)
        return self._encoder('audio')(wave[None])[0]

    def new_cache(self) -> SlotCache:
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
        """Append to sequences; see Engine.step_all.

        One that is longer than the profile is refused here, before the GPU sees it.
        """
        check_rows(self._info, rows)
        return self._decoder.step(rows)

    def _encoder(self, name: str) -> _Encoder:
        if name not in self._encoders:
            session = Session(name, self._plan(name).content, self._plans.library, self._cuda)
            self._encoders[name] = _Encoder(session, self.manifest)
        return self._encoders[name]

    def _plan(self, name: str) -> Plan:
        plan = self._plans.get(name, self._rebuild)
        self.built = self.built or plan.built
        return plan


class _Encoder:
    """An encoder's engine: values in, tokens [B, N, D] out."""

    def __init__(self, session: Session, manifest: Manifest) -> None:
        self._session = session
        self._input = _INPUTS[session.name]
        size, count = manifest.image_size, MOST_IMAGES
        batch, tokens = MOST_IMAGES, manifest.visual_tokens
        elements = 3 * size[0] * size[1]
        if session.name == 'video' and manifest.video:
            count, batch, tokens = manifest.video.frames, 1, manifest.video.tokens
        if session.name == 'audio' and manifest.audio:
            count, batch, tokens = 1, 1, manifest.audio.tokens
            elements = manifest.audio.samples
        self._tokens = tokens, manifest.hidden
        self._batched = batch > 1
        self._in = Slot(session.cuda, count * elements, np.float32)
        self._out = Slot(session.cuda, batch * tokens * manifest.hidden, np.float32)
        session.bind(0, {self._input: self._in.address, 'features': self._out.address})

    def __call__(self, values: Array) -> Array:
        session = self._session
        self._in.upload(np.ascontiguousarray(values, np.float32), session.stream)
        session.run(0, {self._input: values.shape})
        batch = len(values) if self._batched else 1
        return self._out.download((batch, *self._tokens), session.stream)
