"""Videos from files, and results into files: whole ones, with their provenance beside them.

A file appears under its name only when all of it is on the disk, after `<file>.json`, which says
where it comes from. What cannot be written leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import secrets
import shutil
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.errors import ImageError, RequestError, VideoError, WriteError
from unifiedmllm_ros.experts.base import (
    AudioResult,
    ImageResult,
    Provenance,
    Result,
    SegmentationResult,
    VideoResult,
    VideoSegmentationResult,
)
from unifiedmllm_ros.masks import Mask, label_map

MAX_FRAMES = 10_000
MAX_PIXELS = 33_177_600
MAX_BYTES = 4 * 2**30
"""Most memory that the frames of one video may take."""

DEFAULT_RATE = 10.0
"""Frames per second of a written video whose rate is not known."""

Image = NDArray[np.uint8]
Shape = tuple[int, int]

# These containers have an index: they know exactly how many frames there should be.
_INDEXED = {'.mp4', '.m4v', '.mov', '.avi'}


@dataclass(frozen=True, eq=False)
class Video:
    """frames: each (height, width, 3) uint8 RGB, all of one size; rate: per second, 0 unknown."""

    frames: tuple[Image, ...]
    rate: float


def read_image(path: Path) -> Image:
    """Read an image file as (height, width, 3) uint8 RGB. Raises ImageError."""
    found = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if found is None:
        raise ImageError(f'{path} is missing or no image; give a JPEG or PNG file')
    return np.asarray(found, np.uint8)


def read_video(path: Path, *, max_frames: int = MAX_FRAMES, max_pixels: int = MAX_PIXELS) -> Video:
    """Read a video file.

    Raises VideoError where it is missing, no video, without frames, longer or larger than allowed,
    or where a frame cannot be read.
    """
    if not path.is_file():
        raise VideoError(f'video {path} is not there, or is no file: give the path of a video file')
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise VideoError(
                f'{path} cannot be read as a video: it is damaged, of a kind that OpenCV does not '
                'know, or has no frame'
            )
        frames = _frames(capture, path, max_frames, max_pixels)
        expected = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        rate = float(capture.get(cv2.CAP_PROP_FPS))
    finally:
        capture.release()
    if not frames:
        raise VideoError(f'video {path} has no frame that can be read: give another one')
    if path.suffix.lower() in _INDEXED and len(frames) < expected:
        raise VideoError(
            f'frame {len(frames)} of {expected} of the video {path} cannot be read: it is damaged, '
            'repair it or cut it before that frame'
        )
    return Video(tuple(frames), rate if math.isfinite(rate) and rate > 0 else 0.0)


def _frames(capture: cv2.VideoCapture, path: Path, max_frames: int, max_pixels: int) -> list[Image]:
    frames: list[Image] = []
    while True:
        found, bgr = capture.read()
        if not found:
            return frames
        height, width = bgr.shape[:2]
        if frames and frames[0].shape != bgr.shape:
            raise VideoError(f'frame {len(frames)} of {path} is {width}x{height}, unlike the first')
        if height * width > max_pixels:
            raise VideoError(
                f'video {path} is {width}x{height}: at most {max_pixels} pixels are taken, '
                'shrink it'
            )
        if len(frames) == max_frames or (len(frames) + 1) * bgr.nbytes > MAX_BYTES:
            raise VideoError(
                f'video {path} is longer than the {len(frames)} frames that are taken at '
                f'{width}x{height}: cut or shrink it'
            )
        frames.append(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8))


def save_result(
    result: Result,
    folder: Path,
    stem: str,
    *,
    shape: Shape | None = None,
    facts: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write a result into a folder, which is made where it is missing; returns what was written.

    Images become `<stem>.png` (several `<stem>_0.png` ...), videos `<stem>.mp4`, sounds
    `<stem>.wav`, masks `<stem>.png`, masks of a video a folder `<stem>` of one `000000.png` for
    each frame. shape: (height, width) of the image that masks lie in; else as far as they reach.
    facts: what else the files beside them should tell, for example the task.

    Raises WriteError where something cannot be written, RequestError for a stem that is no name.
    """
    if not stem or stem in ('.', '..') or any(mark in stem for mark in '/\\\0'):
        raise RequestError(f'{stem!r} is no name for a file: leave out folders and separators')
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f'folder {folder} cannot be made: {error.strerror}') from error
    source = result.provenance
    match result:
        case ImageResult(images=images):
            names = [stem] if len(images) == 1 else [f'{stem}_{i}' for i in range(len(images))]
            return [
                write_image(folder / f'{name}.png', image, source, facts)
                for name, image in zip(names, images, strict=True)
            ]
        case VideoResult(frames=frames, rate=rate):
            return [write_video(folder / f'{stem}.mp4', frames, rate, source, facts)]
        case AudioResult(samples=samples, rate=sample_rate):
            return [write_wav(folder / f'{stem}.wav', samples, sample_rate, source, facts)]
        case SegmentationResult(masks=masks):
            return [write_masks(folder / f'{stem}.png', masks, source, shape, facts)]
        case VideoSegmentationResult(frames=masks_of):
            return [write_video_masks(folder / stem, masks_of, source, shape, facts)]
    raise WriteError(
        f'a {type(result).__name__} of expert {source.expert!r} has no file format: write it in '
        'your own code'
    )


def write_image(
    path: Path, image: Image, provenance: Provenance, facts: Mapping[str, Any] | None = None
) -> Path:
    """Write (height, width, 3) uint8 RGB as a PNG file. Raises WriteError."""
    return _write_bytes(path, _png(image[..., ::-1]), provenance, facts)


def write_masks(
    path: Path,
    masks: Sequence[Mask],
    provenance: Provenance,
    shape: Shape | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write masks as a label map: 0 background, k the k-th mask; the phrases stand beside it."""
    labels, phrases = label_map(masks, *(shape or _reach(masks)))
    told = {**(facts or {}), 'labels': list(phrases)}
    return _write_bytes(path, _png(labels), provenance, told)


def write_wav(
    path: Path,
    samples: NDArray[np.float32],
    rate: int,
    provenance: Provenance,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write (n,) float32 in [-1, 1] as 16-bit mono, clipped to that. Raises WriteError."""
    whole = np.rint(np.clip(np.nan_to_num(samples), -1.0, 1.0) * 32767.0).astype('<i2')
    buffer = io.BytesIO()
    with wave.open(buffer, 'wb') as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(whole.tobytes())
    return _write_bytes(path, buffer.getvalue(), provenance, facts)


def write_video(
    path: Path,
    frames: Sequence[Image],
    rate: float,
    provenance: Provenance,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write frames, (height, width, 3) uint8 RGB, as MPEG-4 (`mp4v`). Raises WriteError.

    The format has no odd sizes: the last row or column is written twice then, and the file beside
    it tells the true size. rate 0 (not known) becomes 10 frames per second.
    """
    if not len(frames):
        raise WriteError(f'{path} would be a video without frames: nothing is written')
    height, width = frames[0].shape[:2]
    told = {**(facts or {}), 'size': [width, height], 'frames': len(frames), 'rate': rate}

    def encode(target: Path) -> None:
        _encode_mp4(target, frames, rate or DEFAULT_RATE)

    return _publish(path, encode, provenance, told)


def write_video_masks(
    folder: Path,
    frames: Sequence[Sequence[Mask]],
    provenance: Provenance,
    shape: Shape | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write one label map for each frame into a new folder: 000000.png and so on."""
    shape = shape or _reach([mask for masks in frames for mask in masks])
    phrases = [mask.phrase for mask in frames[0]] if frames else []

    def draw(target: Path) -> None:
        target.mkdir()
        for index, masks in enumerate(frames):
            with (target / f'{index:06}.png').open('wb') as file:
                _flush(file, _png(_labels(masks, shape)))

    told = {**(facts or {}), 'labels': phrases, 'frames': len(frames)}
    return _publish(folder, draw, provenance, told)


def write_file(path: Path, data: bytes) -> Path:
    """Write a file that needs no provenance, whole or not at all. Raises WriteError."""
    part = _part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open('wb') as file:
            _flush(file, data)
        os.replace(part, path)
    except OSError as error:
        raise _not_written(path, error) from error
    finally:
        _remove(part)
    return path


def _labels(masks: Sequence[Mask], shape: Shape) -> NDArray[Any]:
    return label_map(masks, *shape)[0]


def _reach(masks: Sequence[Mask]) -> Shape:
    rows = [mask.window[0].stop for mask in masks]
    columns = [mask.window[1].stop for mask in masks]
    return max(rows, default=1), max(columns, default=1)


def _png(image: NDArray[Any]) -> bytes:
    written, data = cv2.imencode('.png', np.ascontiguousarray(image))
    if not written:
        raise WriteError(f'an image of shape {image.shape} cannot be written as PNG')
    return data.tobytes()


def _write_bytes(
    path: Path, data: bytes, provenance: Provenance, facts: Mapping[str, Any] | None
) -> Path:
    def write(target: Path) -> None:
        with target.open('wb') as file:
            _flush(file, data)

    return _publish(path, write, provenance, facts)


def _flush(file: Any, data: bytes) -> None:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def _publish(
    path: Path,
    write: Callable[[Path], None],
    provenance: Provenance,
    facts: Mapping[str, Any] | None,
) -> Path:
    """Write under hidden names, then rename: first the file beside it, then the file itself."""
    beside = path.with_name(f'{path.name}.json')
    part, beside_part = _part_of(path), _part_of(beside)
    # Of an earlier file of this name; a failure leaves that one as it was.
    try:
        write(part)
        record = {'file': path.name, **(facts or {}), **asdict(provenance), **_digest(part)}
        with beside_part.open('wb') as file:
            _flush(file, (json.dumps(record, indent=2, default=str) + '\n').encode())
        _replace(part, path, beside_part, beside)
    except OSError as error:
        raise _not_written(path, error) from error
    finally:
        for rest in (part, beside_part):
            _remove(rest)
    return path


def _part_of(path: Path) -> Path:
    """A hidden name beside it, with its ending, by which some writers choose the format."""
    return path.with_name(f'.{path.stem}.{secrets.token_hex(4)}.part{path.suffix}')


def _not_written(path: Path, error: OSError) -> WriteError:
    reason = error.strerror or str(error)
    return WriteError(
        f'{path} cannot be written ({reason}): free some space or choose another folder'
    )


def _replace(part: Path, path: Path, beside_part: Path, beside: Path) -> None:
    if path.is_dir():  # a rename replaces files and empty folders alone
        shutil.rmtree(path)
    os.replace(beside_part, beside)
    try:
        os.replace(part, path)
    except OSError:
        if not path.exists():
            beside.unlink(missing_ok=True)
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _digest(path: Path) -> dict[str, str]:
    if path.is_dir():
        return {}
    with path.open('rb') as file:
        return {'sha256': hashlib.file_digest(file, 'sha256').hexdigest()}


def _encode_mp4(path: Path, frames: Sequence[Image], rate: float) -> None:
    height, width = frames[0].shape[:2]
    even = width + width % 2, height + height % 2
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*'mp4v'), rate, even)
    if not writer.isOpened():
        raise WriteError(
            f'{path.parent} takes no video of {width}x{height} at {rate:g} frames per second: '
            'is the folder writable, and the disk not full?'
        )
    try:
        for frame in frames:
            bgr = np.ascontiguousarray(frame[..., ::-1])
            if even != (width, height):
                extra = even[1] - height, even[0] - width
                bgr = np.pad(bgr, ((0, extra[0]), (0, extra[1]), (0, 0)), mode='edge')
            writer.write(bgr)
    finally:
        writer.release()
    _check_mp4(path, len(frames))


def _check_mp4(path: Path, count: int) -> None:
    """OpenCV does not tell that a disk was full: the file does."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    whole = capture.isOpened() and int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == count
    if whole:
        capture.set(cv2.CAP_PROP_POS_FRAMES, count - 1)
        whole = capture.read()[0]
    capture.release()
    if not whole:
        raise WriteError(
            f'the video in {path.parent} did not come out whole: free some space or choose '
            'another folder'
        )
