"""Audio: fixed-length segments, their log-mel spectrograms, and the encoder that reads them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import ClapAudioModel, PretrainedConfig, WhisperConfig
from transformers.audio_utils import mel_filter_bank
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from unifiedmllm_ros.model.configuration import AudioConfig
from unifiedmllm_ros.model.projectors import MLPProjector

_FLOOR = 1e-10


@dataclass(frozen=True)
class MelSettings:
    """A log-mel front end: lengths in samples, frequencies in Hz."""

    rate: int
    window: int
    hop: int
    bands: int
    lowest: float
    highest: float
    scaling: Literal['whisper', 'decibel']


def mel_settings(encoder: PretrainedConfig) -> MelSettings:
    """What the published weights of an encoder were trained on (Whisper; CLAP without fusion)."""
    if isinstance(encoder, WhisperConfig):
        return MelSettings(16000, 400, 160, encoder.num_mel_bins, 0.0, 8000.0, 'whisper')
    return MelSettings(48000, 1024, 480, encoder.num_mel_bins, 50.0, 14000.0, 'decibel')


def split_segments(wave: NDArray[np.float32], samples: int) -> NDArray[np.float32]:
    """A mono wave (n,) in [-1, 1] -> (segments, samples), the last one filled up with silence.

    Raises: ValueError: the wave is empty or not mono.
    """
    if wave.ndim != 1 or not len(wave):
        raise ValueError(f'wanted a mono wave (samples,) that is not empty, got {wave.shape}')
    count = -(-len(wave) // samples)
    filled = np.zeros(count * samples, np.float32)
    filled[: len(wave)] = wave
    return filled.reshape(count, samples)


def log_mel(waves: Tensor, settings: MelSettings) -> Tensor:
    """(N, samples) in [-1, 1] -> (N, bands, time), scaled as the encoder expects."""
    window = torch.hann_window(settings.window, device=waves.device)
    spectrum = torch.stft(
        waves.float(), settings.window, settings.hop, window=window, return_complex=True
    )
    filters = log_mel_filters(settings).to(waves.device)
    if settings.scaling == 'whisper':
        # Whisper leaves the last frame out.
        levels = (filters @ spectrum[..., :-1].abs().square()).clamp(min=_FLOOR).log10()
        loudest = levels.amax(dim=(1, 2), keepdim=True)
        return (torch.maximum(levels, loudest - 8.0) + 4.0) / 4.0
    return 10.0 * (filters @ spectrum.abs().square()).clamp(min=_FLOOR).log10()


@lru_cache(maxsize=4)
def log_mel_filters(settings: MelSettings) -> Tensor:
    """(bands, window // 2 + 1): how much of each frequency goes into each band."""
    rows = mel_filter_bank(
        num_frequency_bins=settings.window // 2 + 1,
        num_mel_filters=settings.bands,
        min_frequency=settings.lowest,
        max_frequency=settings.highest,
        sampling_rate=settings.rate,
        norm='slaney',
        mel_scale='slaney',
    )
    return torch.from_numpy(rows.T.copy()).float()


class AudioTower(nn.Module):
    """Whisper's encoder or CLAP's, averaged to a few tokens a segment, and the two-layer MLP."""

    def __init__(self, config: AudioConfig, hidden_size: int) -> None:
        super().__init__()
        encoder = config.encoder_config
        self.whisper = isinstance(encoder, WhisperConfig)
        self.settings = mel_settings(encoder)
        self.samples = round(config.segment_seconds * self.settings.rate)
        self.tokens = config.tokens
        self.encoder = WhisperEncoder(encoder) if self.whisper else ClapAudioModel(encoder)
        width = encoder.d_model if self.whisper else encoder.hidden_size
        self.projector = MLPProjector(width, hidden_size)

    def forward(self, waves: Tensor) -> Tensor:
        """(N, samples) segments of `split_segments` -> (N, tokens, D).

        Raises: ValueError: the segments have another length than the configuration says.
        """
        if waves.ndim != 2 or waves.shape[1] != self.samples:
            raise ValueError(
                f'audio of shape {tuple(waves.shape)}; wanted (segments, {self.samples}) at '
                f'{self.settings.rate} Hz, as split_segments() makes them'
            )
        return self.read(log_mel(waves, self.settings).to(self.projector.linear1.weight.dtype))

    def read(self, mel: Tensor) -> Tensor:
        """Log-mel spectrograms (N, bands, time) -> (N, tokens, D)."""
        states = self._encode(mel)
        pooled = nn.functional.adaptive_avg_pool1d(states.transpose(1, 2), self.tokens)
        return self.projector(pooled.transpose(1, 2))

    def _encode(self, mel: Tensor) -> Tensor:
        if self.whisper:
            return self.encoder(mel).last_hidden_state
        # CLAP takes (N, 1, time, bands) and gives a map (N, C, rows, columns).
        said = self.encoder(mel.transpose(1, 2).unsqueeze(1)).last_hidden_state
        return said.flatten(2).transpose(1, 2)
