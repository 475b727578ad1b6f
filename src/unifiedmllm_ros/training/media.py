"""Media of conversations, from files or from the bytes of a shard, as the encoders take them."""

from __future__ import annotations

import io
import tempfile
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.errors import MissingExtraError, UnifiedMLLMError
from unifiedmllm_ros.model.audio import split_segments
from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor
from unifiedmllm_ros.model.video import uniform_frames
from unifiedmllm_ros.training.encoding import Media

FRAMES = frozenset({'.jpg', '.jpeg', '.png', '.webp'})
Content = bytes | Path


class MediaError(UnifiedMLLMError, ValueError):
    """A medium that cannot be read; the message names conversation, medium and file."""

    code = 'invalid_media'


def read_media(processor: UnifiedMLLMProcessor, contents: dict[str, Content], place: str) -> Media:
    """Read what a conversation names: modality -> file, folder of frames, or bytes of a file.

    Raises MediaError, naming `place`.
    """
    try:
        image, video, audio = (contents.get(name) for name in ('image', 'video', 'audio'))
        return Media(
            None if image is None else processor.pixels(read_picture(image)),
            None if video is None else read_frames(video, processor)[None],
            None if audio is None else read_segments(audio, processor),
        )
    except (ValueError, OSError) as error:
        raise MediaError(f'{place}: {error}') from error


def read_picture(content: Content) -> NDArray[np.uint8]:
    """An image as (height, width, 3) uint8 RGB. Raises ValueError where it is none."""
    data = content.read_bytes() if isinstance(content, Path) else content
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
    if found is None:
        raise ValueError(f'image {_name(content)} is damaged or no image')
    return np.asarray(found, np.uint8)


def read_frames(content: Content, processor: UnifiedMLLMProcessor) -> NDArray[np.float32]:
    """Uniformly sampled frames of a video, (F, 3, H, W) float32 in [0, 1]."""
    if isinstance(content, Path) and content.is_dir():
        files = sorted(file for file in content.iterdir() if file.suffix.lower() in FRAMES)
        if not files:
            raise ValueError(f'video {content} is a folder without frames')
        wanted = uniform_frames(len(files), processor.config.video_frames)
        pictures = [read_picture(files[index]) for index in wanted]
    else:
        with _as_file(content) as path:
            pictures = _sampled(path, processor.config.video_frames, _name(content))
    return np.concatenate([processor.pixels(picture) for picture in pictures])


def _sampled(path: Path, frames: int, name: str) -> list[NDArray[np.uint8]]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        if count < 1:
            raise ValueError(f'video {name} is damaged, or has no frame that can be read')
        wanted = uniform_frames(count, frames)
        found: dict[int, NDArray[np.uint8]] = {}
        for index in range(int(wanted[-1]) + 1):
            if not capture.grab():
                raise ValueError(f'frame {index} of {count} of video {name} cannot be read')
            if index in wanted:
                _, bgr = capture.retrieve()
                found[index] = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
    finally:
        capture.release()
    return [found[int(index)] for index in wanted]


def read_segments(content: Content, processor: UnifiedMLLMProcessor) -> NDArray[np.float32]:
    """A sound as (segments, samples) float32 in [-1, 1], mono, at the encoder's rate."""
    sound, rate = read_sound(content)
    return split_segments(
        resampled(sound, rate, processor.config.audio_rate), processor.config.audio_samples
    )


def read_sound(content: Content) -> tuple[NDArray[np.float32], int]:
    """A mono wave in [-1, 1] and its rate: of WAV files by Python, of others by `soundfile`."""
    data = content.read_bytes() if isinstance(content, Path) else content
    if data[:4] == b'RIFF':
        try:
            return _wav(data)
        except (wave.Error, EOFError):
            pass  # floats or a codec in a WAV file: soundfile knows more
    try:
        import soundfile
    except ModuleNotFoundError as error:
        raise MissingExtraError.naming('soundfile', 'train') from error
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype='float32', always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f'sound {_name(content)} is damaged or no sound: {error}') from error
    if not len(samples):
        raise ValueError(f'sound {_name(content)} is empty')
    return samples.mean(1), int(rate)


def _wav(data: bytes) -> tuple[NDArray[np.float32], int]:
    with wave.open(io.BytesIO(data)) as file:
        channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
        raw = np.frombuffer(file.readframes(file.getnframes()), np.uint8)
    raw = raw[: len(raw) // (channels * width) * channels * width]
    if not raw.size:
        raise ValueError('sound is empty')
    if width == 1:
        values = (raw.astype(np.float32) - 128) / 128
    else:
        # Into the upper bytes of an int32, whatever the width.
        wide = np.zeros((len(raw) // width, 4), np.uint8)
        wide[:, 4 - width :] = raw.reshape(-1, width)
        values = wide.view('<i4')[:, 0].astype(np.float32) / 2**31
    return values.reshape(-1, channels).mean(1), rate


def resampled(sound: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    """The same sound at another rate, its spectrum cut or filled up with zeros."""
    if rate == wanted:
        return sound
    count = max(1, round(len(sound) * wanted / rate))
    spectrum = np.fft.rfft(sound)
    kept = np.zeros(count // 2 + 1, spectrum.dtype)
    both = min(len(kept), len(spectrum))
    kept[:both] = spectrum[:both]
    return (np.fft.irfft(kept, count) * (count / len(sound))).astype(np.float32)


@contextmanager
def _as_file(content: Content) -> Iterator[Path]:
    """OpenCV opens videos by name alone."""
    if isinstance(content, Path):
        yield content
        return
    with tempfile.NamedTemporaryFile(suffix='.video') as file:
        file.write(content)
        file.flush()
        yield Path(file.name)


def _name(content: Content) -> str:
    return str(content) if isinstance(content, Path) else '(in a shard)'
