"""Frames, segments and the log-mel front ends, the latter against those of `transformers`."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')
pytest.importorskip('transformers', reason='needs the extra [train]')

from transformers import (  # noqa: E402
    ClapAudioConfig,
    ClapFeatureExtractor,
    WhisperConfig,
    WhisperFeatureExtractor,
)

from tests.model.preset_twin import shrunken_model  # noqa: E402
from unifiedmllm_ros.model.audio import log_mel, mel_settings, split_segments  # noqa: E402
from unifiedmllm_ros.model.configuration import VideoConfig  # noqa: E402
from unifiedmllm_ros.model.video import VideoTower, uniform_frames  # noqa: E402


def tone(seconds: float, rate: int) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).normal(0, 0.01, len(time))
    return (0.3 * np.sin(2 * np.pi * 440 * time) + noise).astype(np.float32)


@pytest.mark.parametrize(
    ('count', 'frames', 'picked'),
    [(80, 4, [10, 30, 50, 70]), (4, 4, [0, 1, 2, 3]), (2, 4, [0, 0, 1, 1]), (1, 2, [0, 0])],
)
def test_frames_are_uniform(count: int, frames: int, picked: list[int]) -> None:
    assert uniform_frames(count, frames).tolist() == picked


def test_empty_video_is_an_error() -> None:
    with pytest.raises(ValueError, match='video of 0'):
        uniform_frames(0, 8)


def test_order_of_frames_matters_by_the_temporal_positions() -> None:
    torch.manual_seed(0)
    config = VideoConfig(4, tokens=6, hidden_size=16, layers=1, heads=2, intermediate_size=32)
    tower, features = VideoTower(config, 16, 32), torch.randn(1, 4, 5, 16)
    with torch.no_grad():
        # An untrained Q-Former attends almost evenly, and a mean knows no order.
        for weight in tower.qformer.parameters():
            weight.mul_(10)
        tower.positions.normal_()
        there, back = tower(features), tower(features.flip(1))
        assert there.shape == (1, 6, 32)
        assert float((there - back).abs().max()) > 1e-2
        tower.positions.zero_()
        there, back = tower(features), tower(features.flip(1))
    torch.testing.assert_close(there, back, atol=1e-4, rtol=1e-4)


def test_too_many_frames_are_named() -> None:
    with pytest.raises(ValueError, match='uniform_frames'):
        shrunken_model('7b').encode_video(torch.rand(1, 5, 3, 28, 28))


def test_segments_have_one_length_and_lose_nothing() -> None:
    wave = tone(2.5, 100)
    segments = split_segments(wave, 100)
    assert segments.shape == (3, 100)
    assert np.array_equal(segments.reshape(-1)[:250], wave)
    assert not segments[2, 50:].any()


@pytest.mark.parametrize('wave', [np.zeros(0, np.float32), np.zeros((2, 9), np.float32)])
def test_waves_that_are_none_are_an_error(wave: np.ndarray) -> None:
    with pytest.raises(ValueError, match='mono'):
        split_segments(wave, 100)


def test_log_mel_is_whispers() -> None:
    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=2)
    wave = tone(2, 16000)
    expected = extractor(wave, sampling_rate=16000, return_tensors='pt').input_features
    got = log_mel(torch.from_numpy(wave)[None], mel_settings(WhisperConfig(num_mel_bins=80)))
    assert got.shape == (1, 80, 200)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_log_mel_is_claps() -> None:
    # The lowest frequency is that of the published weights, not the class's default.
    extractor = ClapFeatureExtractor(truncation='rand_trunc', max_length_s=1, frequency_min=50)
    wave = tone(1, 48000)
    expected = extractor(wave, sampling_rate=48000, return_tensors='pt').input_features[0]
    got = log_mel(torch.from_numpy(wave)[None], mel_settings(ClapAudioConfig()))
    assert got.shape == (1, 64, 101)
    torch.testing.assert_close(got.transpose(1, 2), expected.float(), atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize('name', ['smol-135m', '7b'])
def test_segments_become_tokens(name: str) -> None:
    model = shrunken_model(name)
    samples = model.audio_tower.samples
    with torch.no_grad():
        tokens = model.encode_audio(torch.rand(2, samples))
    assert tokens.shape == (2, 3, 32)
    with pytest.raises(ValueError, match='split_segments'):
        model.encode_audio(torch.rand(2, samples - 1))
