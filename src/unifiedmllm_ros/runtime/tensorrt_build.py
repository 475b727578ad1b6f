"""Builds engines of TensorRT: strongly typed networks of the exported graphs, for fixed profiles.

The precision is that of the graph. The decoder has two profiles, prefill and decode; the capacity
of its cache is fixed, which is what lets TensorRT write it in place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from unifiedmllm_ros.errors import BackendError, GpuMemoryError, ModelFileError
from unifiedmllm_ros.runtime.manifest import Manifest
from unifiedmllm_ros.runtime.onnx_session import no_memory
from unifiedmllm_ros.runtime.tensorrt_library import Library

MOST_IMAGES: Final = 4
"""Images of one batch, as of several cameras."""
MOST_ROWS: Final = 64
"""Logits that one step gives at most."""
PREFILL, DECODE = 0, 1
_TYPICAL_PROMPT: Final = 32
Say = Callable[[str], None]
Range = tuple[int, int, int]
Shapes = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]


@dataclass(frozen=True)
class DecoderProfile:
    """Lengths that a decoder engine takes.

    capacity: positions of the cache. features: most visual tokens of a step.
    """

    capacity: int
    features: int

    @classmethod
    def of(cls, manifest: Manifest, capacity: int | None = None) -> DecoderProfile:
        """Return the profile of a model, by default with room for its longest sequence."""
        video = manifest.video.tokens if manifest.video else 0
        audio = manifest.audio.tokens if manifest.audio else 0
        capacity = capacity or manifest.max_length
        one = max(manifest.visual_tokens, video, audio)
        # Several cameras' pictures in one run, where they leave most of it to the questions.
        features = max(one, min(MOST_IMAGES * one, capacity // 4))
        if capacity <= features + 1:
            raise BackendError(
                f'a profile of {capacity} positions has no room for {features} visual tokens and '
                'a question: give a longer one'
            )
        return cls(capacity, features)

    @property
    def ids(self) -> int:
        """Most token ids of one step: with the visual tokens they fit the cache."""
        return self.capacity - self.features

    @property
    def rows(self) -> int:
        """Most logits of one step."""
        return min(MOST_ROWS, self.ids)

    def shapes(self, hidden: int) -> tuple[Shapes, Shapes]:
        """Return the least, usual and largest shapes: of prefill, then of decode.

        Prefill is also what steps over several sequences are.
        """
        usual, most = min(_TYPICAL_PROMPT, self.ids), self.ids + self.features
        typical = usual + self.features
        prefill: Shapes = {
            'input_ids': ((1, 1), (1, usual), (1, self.ids)),
            'features': ((1, 0, hidden), (1, self.features, hidden), (1, self.features, hidden)),
            'places': ((1, 1), (1, typical), (1, most)),
            'visible': ((1, self.capacity), (typical, self.capacity), (most, self.capacity)),
            'rows': ((1,), (1,), (self.rows,)),
        }
        one = (1, 1)
        decode: Shapes = {
            'input_ids': (one, one, one),
            'features': ((1, 0, hidden), (1, 0, hidden), (1, 0, hidden)),
            'places': (one, one, one),
            'visible': ((1, self.capacity),) * 3,
            'rows': ((1,), (1,), (1,)),
        }
        return prefill, decode

    def __str__(self) -> str:
        """As in the name of an engine's file."""
        return f'c{self.capacity}f{self.features}'


@dataclass(frozen=True)
class BuildJob:
    """What to build: a graph's file and name, and for which compute capabilities.

    capabilities: such as '8.9'; with TensorRT itself only that of the GPU that is there.
    profile: of a decoder.
    """

    file: Path
    graph: str
    manifest: Manifest
    capabilities: tuple[str, ...]
    profile: DecoderProfile | None = None


def build(job: BuildJob, library: Library, say: Say) -> bytes:
    """Return a serialised engine.

    say: hears how far the build is and how long it will take. Raises GpuMemoryError where memory
    ran out, ModelFileError for a graph that TensorRT does not take, BackendError for the rest.
    """
    trt = library.module
    logger = library.logger()
    builder = trt.Builder(logger)
    network, parser = parse(job, library, builder, logger)
    config = builder.create_builder_config()
    for shapes in _profiles(job):
        profile = builder.create_optimization_profile()
        for name, limits in shapes.items():
            profile.set_shape(name, *limits)
        if config.add_optimization_profile(profile) < 0:
            raise BackendError(f'{job.graph}: profile {shapes} refused: {library.last_words()}')
    _set_capabilities(config, job.capabilities, library)
    config.progress_monitor = monitor(library, job, say)
    started = time.monotonic()
    plan = builder.build_serialized_network(network, config)
    del parser
    if plan is None:
        raise _failure(job, library)
    say(f'{job.graph}: built in {time.monotonic() - started:.0f} s, {plan.nbytes / 2**20:.1f} MiB')
    return bytes(plan)


def parse(job: BuildJob, library: Library, builder: Any, logger: Any) -> tuple[Any, Any]:
    """Return the strongly typed network of a graph, and the parser that must outlive it."""
    trt = library.module
    flag = trt.NetworkDefinitionCreationFlag
    flags = 1 << int(flag.STRONGLY_TYPED) if hasattr(flag, 'STRONGLY_TYPED') else 0
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    # With its path, so that weights beside the graph are found.
    if not parser.parse(_fixed(job), str(job.file)):
        errors = '; '.join(str(parser.get_error(i)) for i in range(parser.num_errors))
        library.said.clear()
        raise ModelFileError(
            f'{job.file}: {library.name} {library.version} does not take the graph ({errors}); '
            'decoders that write their cache in place need TensorRT 10.15 or TensorRT for RTX 1.4 '
            'at least: install a newer one, or choose the backend onnxruntime-cuda'
        )
    return network, parser


def _fixed(job: BuildJob) -> bytes:
    """Return the graph with the cache's capacity written into it; weights outside stay there."""
    import onnx

    if job.profile is None:
        return job.file.read_bytes()
    model = onnx.load(job.file, load_external_data=False)
    graph = model.graph
    for value in (*graph.input, *graph.output):
        axis = 1 if value.name == 'visible' else 2
        if axis == 1 or value.name.removeprefix('present_').startswith(('keys_', 'values_')):
            dim = value.type.tensor_type.shape.dim[axis]
            dim.Clear()
            dim.dim_value = job.profile.capacity
    # Shapes inside, which the exporter inferred for any capacity, would contradict it.
    del graph.value_info[:]
    return bytes(model.SerializeToString())


def _profiles(job: BuildJob) -> Iterator[Shapes]:
    if job.profile is not None:
        yield from job.profile.shapes(job.manifest.hidden)
    elif job.graph == 'vision':
        image = (3, *job.manifest.image_size)
        yield {'pixels': ((1, *image), (1, *image), (MOST_IMAGES, *image))}


def _set_capabilities(config: Any, names: Sequence[str], library: Library) -> None:
    if not library.rtx:
        return
    known = library.module.ComputeCapability
    config.num_compute_capabilities = len(names)
    for place, name in enumerate(names):
        value = getattr(known, f'SM{name.replace(".", "")}', None)
        if value is None:
            possible = sorted(word for word in dir(known) if word.startswith('SM'))
            raise BackendError(
                f'{library.name} {library.version} does not build for compute capability {name} '
                f'(it knows {", ".join(possible)}); use the backend torch or onnxruntime-cuda there'
            )
        config.set_compute_capability(value, place)


def _failure(job: BuildJob, library: Library) -> Exception:
    words = library.last_words()
    if no_memory(RuntimeError(words)) or 'OutOfMemory' in words:
        return GpuMemoryError(f'{job.graph}: out of GPU memory while building ({words})')
    return BackendError(f'{job.graph}: {library.name} {library.version} cannot build it: {words}')


class Progress:
    """Turns the phases that TensorRT reports into words: how far, and how long it will take."""

    def __init__(self, graph: str, say: Say, clock: Callable[[], float] = time.monotonic) -> None:
        self._graph, self._say, self._clock = graph, say, clock
        self._started = clock()
        self._steps: dict[str, tuple[int, int]] = {}
        self._root = ''
        self._said = -1

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase of so many steps begins."""
        if parent is None:
            self._root = phase
        self._steps[phase] = (0, max(steps, 1))

    def step(self, phase: str, done: int) -> None:
        """A step of a phase is done."""
        if phase in self._steps:
            self._steps[phase] = (done + 1, self._steps[phase][1])
        if phase == self._root:
            self._tell(phase)

    def finish(self, phase: str) -> None:
        """A phase is done."""
        self._steps.pop(phase, None)

    def _tell(self, phase: str) -> None:
        done, steps = self._steps[phase]
        percent = min(100 * done // steps, 100)
        if percent // 10 == self._said:
            return
        self._said = percent // 10
        elapsed = self._clock() - self._started
        rest = elapsed * (steps - done) / max(done, 1)
        self._say(f'{self._graph}: {percent} % after {elapsed:.0f} s, about {rest:.0f} s to go')


def monitor(library: Library, job: BuildJob, say: Say) -> Any:
    """Return the progress monitor of a build; announces it."""
    size = job.manifest.bytes_of(job.graph) / 2**20
    where = ', '.join(job.capabilities)
    say(f'{job.graph}: building for compute capability {where} ({size:.0f} MiB of weights)')
    progress = Progress(job.graph, say)

    class Monitor(library.module.IProgressMonitor):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress.step(phase_name, step)
            return True

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

    return Monitor()
