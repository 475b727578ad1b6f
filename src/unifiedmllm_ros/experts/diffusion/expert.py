"""What all experts on a pipeline of diffusers share: options, loading, one run, its provenance."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.cancellation import Cancel, check
from unifiedmllm_ros.errors import (
    ConfigError,
    ExpertError,
    ModelError,
    RequestError,
    UnifiedMLLMError,
)
from unifiedmllm_ros.experts.base import OnProgress, Provenance, Request
from unifiedmllm_ros.experts.device_memory import is_out_of_memory
from unifiedmllm_ros.experts.diffusion.folder import Needs
from unifiedmllm_ros.experts.diffusion.job import Job
from unifiedmllm_ros.experts.diffusion.options import (
    Sampling,
    overridden,
    split_defaults,
)
from unifiedmllm_ros.experts.diffusion.pipeline import (
    Loaded,
    first_line,
    load_pipeline,
    unload,
)
from unifiedmllm_ros.experts.diffusion.prompts import truncation_notices
from unifiedmllm_ros.experts.seeding import seeded

S = TypeVar('S', bound=Sampling)

# Arguments that a pipeline may lack; a value that was asked for and is not taken is reported.
_OPTIONAL = (
    'guidance_scale',
    'height',
    'negative_prompt',
    'num_images_per_prompt',
    'prompt',
    'width',
)


@dataclass(eq=False)
class Work(Generic[S]):
    """One run: what is asked, with what, and what there is to say about it.

    parameters: those in effect, for the provenance; notices: sentences for its reader.
    """

    expert: str
    request: Request
    options: S
    loaded: Loaded
    job: Job
    start: float
    parameters: dict[str, Any]
    notices: list[str] = field(default_factory=list)

    @property
    def pipeline(self) -> Any:
        """The pipeline."""
        return self.loaded.pipeline

    def call(self, prompt: str, /, **arguments: Any) -> Any:
        """Run the pipeline on a prompt and the options, and return its output as numpy.

        Arguments that the pipeline does not take are left out, with a notice where they matter.
        """
        options = self.options
        given = {
            'prompt': prompt,
            'negative_prompt': options.negative_prompt or None,
            'num_inference_steps': options.steps,
            'guidance_scale': options.guidance,
            **arguments,
            **options.arguments,
            'generator': self.generator(),
            'output_type': 'np',
        }
        return self.pipeline(**self._taken(given))

    def generator(self) -> Any:
        """Return the random numbers of this run; they are the CPU's on every device."""
        import torch

        return torch.Generator('cpu').manual_seed(self.request.seed)

    def tell_truncation(self, prompt: str, what: str = 'prompt') -> None:
        """Add a notice where a text encoder does not read all of a prompt."""
        self.notices += truncation_notices(self.pipeline, prompt, what)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return a size that the pipeline can make, with a notice where it is not the one asked."""
        step = self.multiple
        made = max(width // step, 1) * step, max(height // step, 1) * step
        if made != (width, height):
            self.notices.append(
                f'The size {width}x{height} became {made[0]}x{made[1]}: its sides must be '
                f'multiples of {step}.'
            )
        return made

    @property
    def multiple(self) -> int:
        """Of what the sides of an image must be multiples."""
        scale = int(getattr(self.pipeline, 'vae_scale_factor', 8))
        # Transformers see patches of two by two latent pixels.
        return scale if getattr(self.pipeline, 'unet', None) is not None else 2 * scale

    def images(self, output: Any) -> tuple[NDArray[np.uint8], ...]:
        """Return the images of an output, (height, width, 3) uint8 RGB.

        An image that the safety checker blacked out stays black and gets a notice.
        """
        made = self.pixels(output.images)
        for index, flagged in enumerate(getattr(output, 'nsfw_content_detected', None) or ()):
            if flagged:
                self.notices.append(
                    f'Image {index + 1} of {len(made)} is black: the safety checker of the weights '
                    'took it for not safe. Another seed or prompt may pass.'
                )
        return tuple(made)

    def pixels(self, values: Any) -> NDArray[np.uint8]:
        """Return numbers in [0, 1] as uint8. Raises ModelError where they are not finite."""
        values = np.asarray(values, np.float32)
        if not np.isfinite(values).all():
            raise ModelError(
                f'expert {self.expert!r} decoded numbers that are not finite in '
                f'{self.loaded.dtype}: set dtype to bfloat16 or float32 in experts.yaml'
            )
        return np.asarray((values * 255).round().clip(0, 255), np.uint8)

    def provenance(self) -> Provenance:
        """Return where the result comes from; the run is over."""
        scheduler = type(self.pipeline.scheduler).__name__
        parameters = {
            **self.parameters,
            'effective_steps': len(self.pipeline.scheduler.timesteps),
            'denoiser_calls': self.job.calls,
            'pipeline': type(self.pipeline).__name__,
            'scheduler': scheduler,
            'offload': self.loaded.offload,
            'safety_checker': getattr(self.pipeline, 'safety_checker', None) is not None,
        }
        return Provenance(
            self.expert,
            'diffusers',
            self.loaded.weights,
            self.request.seed,
            parameters,
            (time.perf_counter() - self.start) * 1000,
            self.loaded.device,
            self.loaded.dtype,
            tuple(self.notices),
        )

    def _taken(self, given: Mapping[str, Any]) -> dict[str, Any]:
        accepted = set(inspect.signature(type(self.pipeline).__call__).parameters)
        unknown = sorted(set(self.options.arguments) - accepted)
        if unknown:
            raise RequestError(
                f'expert {self.expert!r}: its {type(self.pipeline).__name__} takes no argument '
                f'{", ".join(unknown)}: leave it out of arguments'
            )
        for name in sorted(set(_OPTIONAL) - accepted):
            if given.get(name) not in (None, '', 1):
                self.notices.append(
                    f'{name} = {str(given[name])[:80]} was left out: '
                    f'{type(self.pipeline).__name__} does not take it.'
                )
        return {k: v for k, v in given.items() if k in accepted and v is not None}


class DiffusionExpert(Generic[S]):
    """An expert on a pipeline of diffusers.

    weights: a folder with model_index.json. defaults: the fields of `options.Loading` and of the
    expert's `sampling`; a request's parameters override the latter.
    """

    sampling: ClassVar[type[Sampling]]
    needs: ClassVar[Needs]

    def __init__(self, name: str, weights: Path | None, **defaults: Any) -> None:
        if weights is None:
            raise ConfigError(
                f'expert {name!r} needs weights: a folder with the files of {self.needs.repository}'
            )
        self.name = name
        self._folder = weights
        self._loading, options = split_defaults(name, defaults, self.sampling)
        self._options: S = options  # type: ignore[assignment]
        self._loaded: Loaded | None = None
        self._scheduler: Any = None

    def load(self) -> None:
        """Read the weights. Raises ModelFileError where they are not what they should be."""
        if self._loaded is None:
            loaded = load_pipeline(self.name, self._folder, self._loading, self.needs)
            self._scheduler = getattr(loaded.pipeline, 'scheduler', None)
            if self._scheduler is None:
                raise ConfigError(
                    f'expert {self.name!r}: {type(loaded.pipeline).__name__} has no scheduler of '
                    'its own, being made of several pipelines: set one that has'
                )
            self._loaded = loaded

    def unload(self) -> None:
        """Drop the pipeline."""
        if self._loaded is not None:
            unload(self._loaded)
        self._loaded = self._scheduler = None

    @contextmanager
    def _work(self, request: Request, progress: OnProgress, cancel: Cancel) -> Iterator[Work[S]]:
        """One run, all of whose random numbers follow from the seed of the request.

        Errors of the pipeline become ExpertError.
        """
        start = time.perf_counter()
        options = overridden(self.name, self._options, request.parameters)
        check(cancel, f'expert {self.name}')
        self.load()
        loaded = self._loaded
        assert loaded is not None
        loaded.pipeline.scheduler = self._fresh_scheduler(options.scheduler)
        job = Job(
            loaded.pipeline,
            self.name,
            progress,
            cancel,
            preview_every=options.preview_every,
        )
        parameters = options.model_dump()
        notices = list(loaded.notices)
        work = Work(self.name, request, options, loaded, job, start, parameters, notices)
        try:
            with seeded(request.seed), job:
                yield work
                job.finish()
        except UnifiedMLLMError:
            raise
        except Exception as error:  # pipelines raise what they like
            if is_out_of_memory(error):
                raise
            raise ExpertError(
                f'expert {self.name!r} failed in {type(loaded.pipeline).__name__} '
                f'({first_line(error)}): check its parameters {dict(request.parameters)}'
            ) from error

    def _fresh_scheduler(self, kind: str) -> Any:
        """A scheduler without a past: the weights' own kind, or the one that is asked for."""
        own = self._scheduler
        if kind in ('', type(own).__name__):
            return type(own).from_config(own.config)
        fitting = {one.__name__: one for one in getattr(own, 'compatibles', ())}
        if kind not in fitting:
            known = ', '.join(sorted(fitting)) or type(own).__name__
            raise RequestError(
                f'expert {self.name!r}: scheduler {kind!r} does not fit its weights: one of {known}'
            )
        return fitting[kind].from_config(own.config)
