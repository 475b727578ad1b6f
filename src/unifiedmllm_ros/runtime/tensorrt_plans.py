"""The engines of a folder of graphs: from the cache, or built into it.

What is missing is built, aloud. What is stale, foreign or damaged is an error unless a rebuild was
asked for. Where memory runs out a smaller profile is tried, aloud as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from unifiedmllm_ros.errors import BackendError, EngineFileError, GpuMemoryError
from unifiedmllm_ros.runtime.engine_cache import EngineCache, EngineKey
from unifiedmllm_ros.runtime.gpu import Gpu, gpus
from unifiedmllm_ros.runtime.manifest import Manifest
from unifiedmllm_ros.runtime.memory import gib, needed_bytes
from unifiedmllm_ros.runtime.tensorrt_build import BuildJob, DecoderProfile, Say, build
from unifiedmllm_ros.runtime.tensorrt_library import Library, open_library

SHORTEST: Final = 256
"""Positions below which a profile is of no use any more."""
T = TypeVar('T')


@dataclass(frozen=True)
class Plan:
    """A serialised engine, and what it takes. built: whether it was not in the cache."""

    graph: str
    content: bytes
    profile: DecoderProfile | None
    built: bool


class Plans:
    """Engines of the graphs in a folder, for one compute capability."""

    def __init__(
        self,
        folder: Path,
        cache: EngineCache,
        capability: str,
        say: Say,
        library: Library | None = None,
        capacity: int | None = None,
    ) -> None:
        """Read the manifest of `folder`.

        capability: such as '8.9'. say: hears of builds. capacity: positions of the cache, by
        default those of the model's longest sequence.
        """
        self.manifest = Manifest.load(folder)
        if self.manifest.vision_in_int8:
            raise BackendError(
                f'{folder}: convolutions in 8 bits for ONNX Runtime, which TensorRT does not '
                'take; export the model with --to tensorrt'
            )
        self.library = library or open_library()
        self.profile = DecoderProfile.of(self.manifest, capacity)
        self._folder = folder
        self._cache = cache
        self._capability = capability
        self._say = say

    def key(self, graph: str) -> EngineKey:
        """Return what an engine of a graph must have been built for."""
        entry = self.manifest.graphs[graph]
        weights = entry.sha256 + (entry.weights.sha256 if entry.weights else '')
        return EngineKey(
            model=self.manifest.model,
            graph=graph,
            weights=weights,
            library=self.library.name,
            version=self.library.version,
            capability=self._capability,
            precision=entry.precision,
            profile=str(self.profile) if graph == 'decoder' else 'fixed',
        )

    def get(self, graph: str, rebuild: bool = False) -> Plan:
        """Return a graph's engine.

        rebuild: build it anew where the one in the cache cannot be used. Raises EngineFileError
        where there is such a one and this is not allowed; else what `build` raises.
        """
        key = self.key(graph)
        profile = self.profile if graph == 'decoder' else None
        try:
            content = self._cache.load(key)
        except EngineFileError as error:
            if not rebuild:
                raise
            self._say(f'{error} (it is being built anew)')
            content = None
        if content is not None:
            return Plan(graph, content, profile, built=False)
        file = self.manifest.graph(self._folder, graph)
        job = BuildJob(file, graph, self.manifest, (self._capability,), profile)
        content = build(job, self.library, self._say)
        self._say(f'{graph}: kept in {self._cache.store(key, content)}')
        return Plan(graph, content, profile, built=True)

    def shorter(self, capacity: int) -> Plans:
        """Return the same with a shorter cache."""
        return Plans(self._folder, self._cache, self._capability, self._say, self.library, capacity)


def with_less_memory(attempt: Callable[[int], T], capacity: int, say: Say) -> T:
    """Try with a capacity, then with half of it and so on while GPU memory does not suffice.

    say: hears of every smaller try. Raises the last GpuMemoryError where none works.
    """
    while True:
        try:
            return attempt(capacity)
        except GpuMemoryError as error:
            if capacity // 2 < SHORTEST:
                raise
            capacity //= 2
            say(f'{error}; trying again with conversations of at most {capacity} positions')


def check_gpu_memory(manifest: Manifest, gpu: Gpu, capacity: int) -> None:
    """Raise GpuMemoryError where a model is larger than a GPU's memory."""
    needed = needed_bytes(manifest, capacity)
    if needed > gpu.memory:
        raise GpuMemoryError(
            f'{manifest.model} in {manifest.precision} needs {gib(needed)} with {capacity} '
            f'positions, {gpu.name} has {gib(gpu.memory)}; export it in int4, or choose a smaller '
            'model'
        )


def capabilities(named: Sequence[str] | None) -> tuple[str, ...]:
    """Return the capabilities that were named, or that of this machine's first GPU.

    Raises BackendError without a GPU and a name, and for a word that is no capability.
    """
    if named:
        for word in named:
            major, _, minor = word.partition('.')
            if not (major.isdigit() and minor.isdigit()):
                raise BackendError(f'compute capability {word!r}: give it as 8.9 is written')
        return tuple(named)
    found = gpus()
    if not found:
        raise BackendError(
            'no NVIDIA GPU is here to build for; name its compute capability, as in '
            '--capability 8.9'
        )
    return (found[0].capability_name,)
