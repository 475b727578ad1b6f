"""Latent images: whether they are sound, and what they roughly look like."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.errors import ModelError

# Linear map from the four channels of Stable Diffusion 1's latents to RGB around grey, fitted by
# Kevin Turner ("Decoding latents to RGB without upscaling", Hugging Face forum, 2022).
_RGB = (
    (0.298, 0.207, 0.208),
    (0.187, 0.286, 0.173),
    (-0.158, 0.189, 0.264),
    (-0.184, -0.271, -0.473),
)


def check_finite(values: Any, name: str) -> None:
    """Raise ModelError, with their number, where a tensor holds values that are not finite."""
    wrong = int((~values.isfinite()).sum())
    if wrong:
        raise ModelError(
            f'expert {name!r}: {wrong} of {values.numel()} numbers are not finite in '
            f'{str(values.dtype).removeprefix("torch.")}: set dtype to bfloat16 or float32 in '
            'experts.yaml, or fetch its weights again'
        )


def preview(sample: Any) -> NDArray[np.uint8] | None:
    """Return a rough picture of what a denoiser is given, None where its form is unknown.

    sample: (batch, channels, height, width) or, of a video, (batch, channels, frames, height,
    width), of which the middle frame is shown; channels beyond the fourth are conditions. The
    picture has the size of the latents; its colours are those of Stable Diffusion 1.
    """
    if sample.ndim == 5:
        sample = sample[:, :, sample.shape[2] // 2]
    if sample.ndim != 4 or sample.shape[1] not in (4, 8, 9):
        return None
    latents = sample[-1, :4].detach().float().cpu().numpy()
    colours = np.einsum('chw,cr->hwr', latents, np.array(_RGB, np.float32))
    picture = np.nan_to_num((colours + 1) * 127.5, nan=0.0).clip(0, 255).round()
    return np.asarray(picture, np.uint8)
