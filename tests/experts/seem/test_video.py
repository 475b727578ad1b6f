"""SEEM on a video, with the tiny weights of the conformance fixture."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='SEEM needs the extra [train]')

from tests.experts.seem.test_conformance import TINY  # noqa: E402
from tests.experts.seem.test_expert import (  # noqa: E402
    LEFT,
    RIGHT,
    WEIGHTS,
    request,
    seem,
    write_tokenizer,
)
from unifiedmllm_ros.cancellation import never  # noqa: E402
from unifiedmllm_ros.errors import Cancelled, ImageError, MissingImageError  # noqa: E402
from unifiedmllm_ros.experts.base import Expert, Progress, Request, unheard  # noqa: E402
from unifiedmllm_ros.experts.seem.video import SeemVideo  # noqa: E402


def video_expert(path: Path = WEIGHTS) -> SeemVideo:
    return SeemVideo('seem_video', path, config=TINY, short_side=64)


def video(count: int, **parameters: object) -> Request:
    asked = request(LEFT, RIGHT, **parameters)
    frames = [np.roll(asked.image, 4 * index, axis=1) for index in range(1, count)]
    return dataclasses.replace(asked, task='vidseg', frames=frames)


def full(masks: tuple, shape: tuple[int, int] = (48, 80)) -> np.ndarray:
    return np.stack([mask.full(*shape) for mask in masks])


def test_every_frame_has_a_mask_for_every_box() -> None:
    heard: list[Progress] = []
    expert = video_expert()
    assert isinstance(expert, Expert)
    result = expert.run(video(3), heard.append, never)
    assert [[mask.box for mask in masks] for masks in result.frames] == [[LEFT, RIGHT]] * 3
    shares = [progress.fraction for progress in heard]
    assert shares == sorted(shares)
    assert (len(heard), shares[-1]) == (4, 1.0)
    source = result.provenance
    assert (source.device, source.dtype) == ('cpu', 'float32')
    assert any('each frame by itself' in notice for notice in source.notices)


def test_the_first_frame_has_the_masks_of_the_image_expert() -> None:
    first = video_expert().run(video(2), unheard, never).frames[0]
    alone = seem().run(video(1), unheard, never).masks
    np.testing.assert_array_equal(full(first), full(alone))


def test_later_frames_are_searched_for_what_the_first_showed() -> None:
    asked = video(2)
    expert = video_expert()
    second = expert.run(asked, unheard, never).frames[1]
    model = expert._model
    with torch.inference_mode():
        before, now = (
            model.features(expert._tensor(one)) for one in (asked.image, asked.frames[0])
        )
        region = expert._region(before, asked.boxes[0], asked.seed, (48, 80))
        logits = model.find_region(now, region).mask[None, None]
        wanted = torch.nn.functional.interpolate(logits, (48, 80), mode='bilinear')[0, 0] > 0
    np.testing.assert_array_equal(full(second)[0], wanted.numpy())


def test_the_same_request_gives_the_same_masks() -> None:
    expert = video_expert()
    torch.manual_seed(1)
    one = expert.run(video(2), unheard, never).frames
    torch.manual_seed(2)
    two = expert.run(video(2), unheard, never).frames
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(full(first), full(second))


def test_a_thing_is_found_by_its_phrase(tmp_path: Path) -> None:
    weights = Path(shutil.copy(WEIGHTS, tmp_path / 'seem.safetensors'))
    write_tokenizer(tmp_path / 'tokenizer.json')
    result = video_expert(weights).run(video(2, prompt='text'), unheard, never)
    assert result.provenance.parameters['prompt'] == 'text'
    assert len(result.frames) == 2


def test_a_cancel_stops_at_the_next_frame() -> None:
    heard: list[Progress] = []
    with pytest.raises(Cancelled, match='seem_video'):
        video_expert().run(video(5), heard.append, lambda: len(heard) == 2)
    assert len(heard) == 2


def test_one_frame_none_and_frames_of_another_size() -> None:
    expert = video_expert()
    assert len(expert.run(video(1), unheard, never).frames) == 1
    with pytest.raises(MissingImageError, match='seem_video'):
        expert.run(Request('vidseg'), unheard, never)
    odd = dataclasses.replace(video(1), frames=(np.zeros((48, 81, 3), np.uint8),))
    with pytest.raises(ImageError, match='frame 1'):
        expert.run(odd, unheard, never)
