"""Auffusion as an expert: a prompt becomes a sound."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from unifiedmllm_ros.cancellation import Cancel, check
from unifiedmllm_ros.errors import MissingExtraError, ModelError, ModelFileError
from unifiedmllm_ros.experts.auffusion.mel import HOP, RATE, from_image
from unifiedmllm_ros.experts.base import AudioResult, OnProgress, Progress, Request
from unifiedmllm_ros.experts.diffusion.expert import DiffusionExpert, Work
from unifiedmllm_ros.experts.diffusion.folder import Needs
from unifiedmllm_ros.experts.diffusion.options import Sampling
from unifiedmllm_ros.experts.diffusion.pipeline import load_pipeline

LICENCE_NOTICE = 'The weights of Auffusion are CC-BY-NC-SA-4.0: not for commercial use.'

_FRAMES_PER_SECOND = RATE / HOP
_STEP = 8  # frames that one latent pixel covers
# Denoising and decoding end here; the vocoder takes the rest.
_VOCODER = 0.95


class AudioSampling(Sampling):
    """A sound from text; the defaults of the published pipeline."""

    steps: int = Field(default=100, ge=1, le=1000, description='denoising steps')
    seconds: float = Field(
        default=10.24, ge=0.01, le=60.0, description='length; the weights were trained for 10.24'
    )


class Auffusion(DiffusionExpert[AudioSampling]):
    """Makes a sound from a prompt, 16 kHz mono.

    weights: a folder of either published layout (see `loading`), with `vocoder/` in it.
    """

    sampling = AudioSampling
    needs = Needs('StableDiffusionPipeline', 'auffusion/auffusion-full-no-adapter', channels=4)

    _conditions: Any = None
    _vocoder: Any = None

    def load(self) -> None:
        """Read the weights. Raises ModelFileError where they are not what they should be."""
        if self._loaded is not None:
            return
        try:
            from unifiedmllm_ros.experts.auffusion.loading import CONDITIONS, load_with_encoders
            from unifiedmllm_ros.experts.auffusion.vocoder import load_vocoder
        except ImportError as error:
            raise MissingExtraError.naming(error.name or 'torch', 'experts') from error
        vocoder = load_vocoder(self._folder / 'vocoder')
        if (self._folder / CONDITIONS).is_file():
            loaded, self._conditions = load_with_encoders(
                self.name, self._folder, self._loading, self.needs
            )
        else:
            loaded = load_pipeline(self.name, self._folder, self._loading, self.needs)
        if vocoder.config.num_mels % _STEP:
            raise ModelFileError(
                f'the vocoder in {self._folder} reads {vocoder.config.num_mels} mel bands, which '
                f'no image of a multiple of {_STEP} rows gives: fetch {self.needs.repository}'
            )
        self._vocoder = vocoder.to(loaded.device)
        self._loaded, self._scheduler = loaded, loaded.pipeline.scheduler

    def unload(self) -> None:
        """Drop all networks."""
        self._conditions = self._vocoder = None
        super().unload()

    def run(self, request: Request, progress: OnProgress, cancel: Cancel) -> AudioResult:
        """Make the sound of the request's argument."""
        with self._work(request, progress, cancel) as work:
            seconds = work.options.seconds
            # A hair of tolerance, so that a length on the grid stays there in spite of rounding.
            frames = math.ceil(seconds * _FRAMES_PER_SECOND / _STEP - 1e-9) * _STEP
            work.notices.append(LICENCE_NOTICE)
            output = work.call(
                request.argument,
                **self._embedded(work, cancel),
                width=frames,
                height=self._vocoder.config.num_mels,
            )
            image = np.asarray(output.images[0], np.float32)
            check(cancel, f'expert {self.name}')
            progress(Progress('vocoder', _VOCODER, work.pixels(image)))
            samples = self._spoken(image)[: max(round(seconds * RATE), 1)]
        return AudioResult(work.provenance(), samples, RATE)

    def _embedded(self, work: Work[AudioSampling], cancel: Cancel) -> dict[str, Any]:
        """Arguments of the pipeline in place of the prompt, where there are several encoders."""
        prompt, negative = work.request.argument, work.options.negative_prompt
        if self._conditions is None:
            work.tell_truncation(prompt)
            return {}

        def between() -> None:
            check(cancel, f'expert {self.name}')

        work.notices += self._conditions.notices(prompt, 'prompt')
        embedded = self._conditions.embed(prompt, between)
        # The published way of saying nothing is zero, not the embedding of an empty prompt.
        other = self._conditions.embed(negative, between) if negative else embedded * 0
        return {
            'prompt': None,
            'negative_prompt': None,
            'prompt_embeds': embedded,
            'negative_prompt_embeds': other,
        }

    def _spoken(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """The sound of an image (mels, frames, 3) in [0, 1]."""
        import torch

        with torch.no_grad():
            painted = torch.from_numpy(image).permute(2, 0, 1)
            log_mel = from_image(painted).to(next(self._vocoder.parameters()).device)
            wave = self._vocoder(log_mel[None])[0, 0]
        samples = np.asarray(wave.cpu().numpy(), np.float32)
        if not np.isfinite(samples).all():
            raise ModelError(
                f'expert {self.name!r} gave samples that are not finite: its vocoder is damaged, '
                f'fetch {self.needs.repository} again'
            )
        return samples
