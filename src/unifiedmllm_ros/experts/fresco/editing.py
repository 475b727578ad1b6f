"""One batch of key frames, edited together: image to image with a ControlNet on their edges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from unifiedmllm_ros.experts.fresco.features import smoothed
from unifiedmllm_ros.experts.fresco.guides import Guides
from unifiedmllm_ros.experts.fresco.pairs import FramePairs

# Steps whose queries are regrouped by the unedited frames; the timestep down to which tokens are
# held together along their trajectories.
_SPATIAL_STEPS = 1
_TEMPORAL_UNTIL = 350
_CANNY = (100, 200)


@dataclass(frozen=True, eq=False)
class Editor:
    """The networks and the wishes of one job.

    text: embeddings of negative prompt and prompt, (2, tokens, width); plain: of no words, (1,
    tokens, width).
    noise: (1, 4, h, w), the same for all frames. options: a FrescoSampling.
    between: called between pieces of work; may raise to stop. stepped: called after each step.
    """

    pipeline: Any
    controlnet: Any
    text: Any
    plain: Any
    noise: Any
    options: Any
    between: Callable[[], None]
    stepped: Callable[[], None]

    def timesteps(self) -> Any:
        """Return the timesteps that the strength leaves; the scheduler is set to them."""
        scheduler, options = self.pipeline.scheduler, self.options
        scheduler.set_timesteps(options.steps, device=self.device)
        count = max(min(int(options.steps * options.strength), options.steps), 1)
        first = (options.steps - count) * scheduler.order
        if hasattr(scheduler, 'set_begin_index'):
            scheduler.set_begin_index(first)
        return scheduler.timesteps[first:]

    @property
    def device(self) -> Any:
        """Where the networks run."""
        return self.pipeline._execution_device

    def edit(
        self, frames: Sequence[NDArray[np.uint8]], pairs: FramePairs, background: Any
    ) -> tuple[Any, Guides]:
        """Return the edited latents (frames, 4, h, w), and how the guides fared.

        frames: (H, W, 3) uint8 RGB; background: (frames, 1, H, W) in [0, 1], or None.
        """
        unet = self.pipeline.unet
        edges = _edges(frames).to(self.device, unet.dtype)
        clean = torch.cat([self._encoded(frame) for frame in frames])
        noise = self.noise.expand_as(clean)
        timesteps = self.timesteps()
        guides = Guides(pairs, self.options.iterations, background, self.between)
        with guides.attached(unet), torch.no_grad():
            with guides.learning():
                last = timesteps[-1:]
                noisy = self.pipeline.scheduler.add_noise(clean, noise, last.expand(len(clean)))
                self._predicted(noisy, last[0], self.plain, edges)
            self.stepped()
            latents = self.pipeline.scheduler.add_noise(
                clean, noise, timesteps[:1].expand(len(clean))
            )
            for index, timestep in enumerate(timesteps):
                guides.set_step(
                    spatial=index < _SPATIAL_STEPS,
                    temporal=int(timestep) >= _TEMPORAL_UNTIL,
                    optimising=index < self.options.optimised_steps,
                )
                latents = self._denoised(latents, timestep, edges)
                self.stepped()
        return latents, guides

    def decoded(self, latents: Any) -> Any:
        """Return frames (n, 3, H, W) float32, about [-1, 1], decoded one at a time."""
        scale = self.pipeline.vae.config.scaling_factor
        with torch.no_grad():
            images = []
            for one in latents.split(1):
                self.between()
                images.append(self.pipeline.vae.decode(one / scale).sample.float())
        return torch.cat(images)

    def finished(self, latents: Any, pairs: FramePairs | None, background: Any) -> Any:
        """Return the frames of edited latents, their background smoothed where there are pairs."""
        images = self.decoded(latents)
        return images if pairs is None else smoothed(images, pairs, background)

    def _encoded(self, frame: NDArray[np.uint8]) -> Any:
        vae = self.pipeline.vae
        pixels = torch.from_numpy(frame).to(self.device).permute(2, 0, 1)[None].float()
        with torch.no_grad():
            latent = vae.encode((pixels / 127.5 - 1).to(vae.dtype)).latent_dist.mode()
        return latent * vae.config.scaling_factor

    def _denoised(self, latents: Any, timestep: Any, edges: Any) -> Any:
        scheduler = self.pipeline.scheduler
        both = scheduler.scale_model_input(torch.cat((latents, latents)), timestep)
        without, wanted = self._predicted(
            both, timestep, self.text, torch.cat((edges, edges))
        ).chunk(2)
        noise = without + self.options.guidance * (wanted - without)
        extra = self.pipeline.prepare_extra_step_kwargs(None, 0.0)
        return scheduler.step(noise, timestep, latents, **extra, return_dict=False)[0]

    def _predicted(self, latents: Any, timestep: Any, text: Any, edges: Any) -> Any:
        """The noise in latents (copies * frames, ...), for the text of each copy."""
        self.between()
        words = text.repeat_interleave(len(latents) // len(text), dim=0)
        down, middle = self.controlnet(
            latents,
            timestep,
            encoder_hidden_states=words,
            controlnet_cond=edges,
            conditioning_scale=self.options.control_scale,
            return_dict=False,
        )
        return self.pipeline.unet(
            latents,
            timestep,
            encoder_hidden_states=words,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]


def _edges(frames: Sequence[NDArray[np.uint8]]) -> Any:
    """The frames' edges as the ControlNet sees them, (n, 3, H, W) of 0 and 1."""
    found = [cv2.Canny(cv2.cvtColor(one, cv2.COLOR_RGB2GRAY), *_CANNY) for one in frames]
    return torch.from_numpy(np.stack(found) > 0).float()[:, None].expand(-1, 3, -1, -1)
