"""One run of a pipeline: its progress is heard, and a cancel stops it within one denoising step.

Pipelines differ in what they offer for that, and some offer nothing. All of them draw a progress
bar and call their denoiser, so the bar is replaced and the networks are hooked while the job runs;
afterwards the pipeline is as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.cancellation import Cancel, check
from unifiedmllm_ros.experts.base import OnProgress, Progress
from unifiedmllm_ros.experts.diffusion.latents import check_finite, preview

DENOISERS = ('unet', 'transformer', 'transformer_2', 'prior')
"""Parts of pipelines that are called at each step."""

_ENCODERS = ('text_encoder', 'text_encoder_2', 'text_encoder_3', 'image_encoder')
# The shares of the whole at which denoising begins and ends; decoding follows.
_ENCODED, _DENOISED = 0.05, 0.9


class Job:
    """Hooks on a pipeline while the `with` block runs.

    name: of the expert. preview_every: steps between previews, 0 for none.
    calls: how often the denoiser was called so far. decodes: how often the decoder will be called,
    to be set by who knows it.
    """

    def __init__(
        self,
        pipeline: Any,
        name: str,
        progress: OnProgress,
        cancel: Cancel,
        preview_every: int = 0,
    ) -> None:
        self.calls = 0
        self.decodes = 1
        self._pipeline = pipeline
        self._name = name
        self._progress = progress
        self._cancel = cancel
        self._preview_every = preview_every
        self._hooks: list[Any] = []
        self._phase, self._fraction, self._decoded = 'encode', 0.0, 0
        self._sample: Any = None

    def __enter__(self) -> Job:
        self._pipeline.progress_bar = self._bar
        for part in _ENCODERS:
            self._hook(getattr(self._pipeline, part, None), self._before_encoder)
        for part in DENOISERS:
            self._hook(getattr(self._pipeline, part, None), self._before_denoiser)
        vae = getattr(self._pipeline, 'vae', None)
        self._hook(getattr(vae, 'encoder', None), self._before_encoder)
        self._hook(getattr(vae, 'decoder', None), self._before_decoder)
        self._report('encode', 0.0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._sample = None
        del self._pipeline.progress_bar
        if error is not None:
            # What a whole run would have done last, so that offloaded networks leave the GPU.
            self._pipeline.maybe_free_model_hooks()

    def finish(self) -> None:
        """Tell that all is done."""
        self._report('decode', 1.0)

    def stepped(self, done: int, total: int) -> None:
        """Hear from the bar that `done` of `total` steps are over."""
        picture = None
        if self._preview_every and done % self._preview_every == 0 and self._sample is not None:
            picture = preview(self._sample)
        share = min(done / total, 1.0) if total > 0 else 0.0
        self._report('denoise', _ENCODED + (_DENOISED - _ENCODED) * share, picture)

    def _bar(self, iterable: Iterable[Any] | None = None, total: int | None = None) -> _Bar:
        return _Bar(self, iterable, total)

    def _hook(self, module: Any, function: Any) -> None:
        if hasattr(module, 'register_forward_pre_hook'):
            self._hooks.append(module.register_forward_pre_hook(function, with_kwargs=True))

    def _before_encoder(self, module: Any, args: Any, kwargs: Any) -> None:
        self._check()
        if self._phase == 'encode':
            self._report('encode', self._fraction)

    def _before_denoiser(self, module: Any, args: Any, kwargs: Any) -> None:
        self._check()
        self.calls += 1
        if self._preview_every:
            self._sample = args[0] if args else kwargs.get('hidden_states', kwargs.get('sample'))
        if self._phase == 'encode':
            self._report('denoise', _ENCODED)

    def _before_decoder(self, module: Any, args: Any, kwargs: Any) -> None:
        self._check()
        if args:
            check_finite(args[0], self._name)
        share = min(self._decoded / max(self.decodes, 1), 1.0)
        self._decoded += 1
        self._report('decode', _DENOISED + (1.0 - _DENOISED) * share * 0.99)

    def _check(self) -> None:
        check(self._cancel, f'expert {self._name}')

    def _report(
        self, phase: str, fraction: float, picture: NDArray[np.uint8] | None = None
    ) -> None:
        self._phase = phase
        self._fraction = max(self._fraction, fraction)
        self._progress(Progress(phase, self._fraction, picture))


class _Bar:
    """What pipelines use of a tqdm bar: a context, or an iterator over the timesteps."""

    def __init__(self, job: Job, iterable: Iterable[Any] | None, total: int | None) -> None:
        self._job = job
        self._iterable = iterable
        self._total = total if total is not None else len(iterable)  # type: ignore[arg-type]
        self._done = 0

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __iter__(self) -> Iterator[Any]:
        for item in self._iterable or ():
            yield item
            self.update()

    def update(self, count: int = 1) -> None:
        """Hear that so many more steps are done."""
        self._done += count
        self._job.stepped(self._done, self._total)

    def close(self) -> None:
        """The last word of a bar that is no context; nothing is left to do."""

    def set_description(self, text: str) -> None:
        """A line of text for people at a terminal, of whom there are none."""
