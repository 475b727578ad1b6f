"""Log-mel spectrograms as the images that Auffusion's diffusion model paints.

A sound at 16 kHz has one mel frame for every 160 samples. Its mel energies, as natural logarithms
between ln(1e-5) and ln(200), are scaled to [0, 1]; the image shows high tones at the top.
"""

from __future__ import annotations

import math
from typing import Any

RATE = 16_000
HOP = 160
LOWEST = math.log(1e-5)
HIGHEST = math.log(200.0)


def to_image(log_mel: Any) -> Any:
    """Return log-mel energies (1, mels, frames) as an image (3, mels, frames) in [0, 1].

    Values beyond the range are set to its ends.
    """
    scaled = (log_mel.clamp(LOWEST, HIGHEST) - LOWEST) / (HIGHEST - LOWEST)
    return scaled.flip(-2).expand(3, -1, -1)


def from_image(image: Any) -> Any:
    """Return the log-mel energies (mels, frames) of an image (channels, mels, frames) in [0, 1].

    The first channel counts.
    """
    return image[0].flip(-2) * (HIGHEST - LOWEST) + LOWEST
