"""Masks carried along by optical flow, and looked at anew by the mask network."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.experts.networks import write_channel_network
from unifiedmllm_ros.cancellation import never
from unifiedmllm_ros.errors import Cancelled, ConfigError, ImageError
from unifiedmllm_ros.experts.base import Expert, Request, VideoSegmentationResult, unheard
from unifiedmllm_ros.experts.flow_video import FlowVideo, origins
from unifiedmllm_ros.representation import Box, Region
from unifiedmllm_ros.router import pixel_boxes

HEIGHT, WIDTH, STEP = 120, 160, 3


def texture() -> np.ndarray:
    noise = np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 3)


def video(count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A textured red disc that moves right over a still, textured ground; and its masks."""
    ground, disc = texture() // 4 + 40, np.roll(texture(), 31) // 4 + 190
    frames, masks = [], []
    for index in range(count):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.circle(mask, (40 + STEP * index, 60), 22, 1, -1)
        image = np.stack([ground] * 3, axis=-1)
        moved = np.roll(disc, STEP * index, axis=1)
        image[mask > 0] = np.stack([moved, moved // 3, moved // 3], axis=-1)[mask > 0]
        frames.append(image)
        masks.append(mask > 0)
    return frames, masks


def request(frames: list[np.ndarray]) -> Request:
    boxes = pixel_boxes(
        (Region('disc', (Box(16 / WIDTH, 36 / HEIGHT, 64 / WIDTH, 84 / HEIGHT),)),), HEIGHT, WIDTH
    )
    return Request('vidseg', image=frames[0], boxes=boxes, frames=frames[1:])


def expert(folder: Path, **options: int) -> FlowVideo:
    return FlowVideo('flow', write_channel_network(folder / 'mask.onnx'), threads=1, **options)


def overlaps(result: VideoSegmentationResult, masks: list[np.ndarray]) -> list[float]:
    found = [one[0].full(HEIGHT, WIDTH) for one in result.frames]
    return [(a & b).sum() / (a | b).sum() for a, b in zip(found, masks, strict=True)]


def test_origins_are_where_pixels_came_from() -> None:
    before = np.stack([texture()] * 3, axis=-1)
    now = np.roll(before, (2, 5), axis=(0, 1))
    found = origins(before, now, 320)
    inner = (slice(20, -20), slice(20, -20))
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    np.testing.assert_allclose(found[inner][..., 0] - columns[inner], -5, atol=0.7)
    np.testing.assert_allclose(found[inner][..., 1] - rows[inner], -2, atol=0.7)


@pytest.mark.parametrize('refresh', [0, 5])
def test_a_mask_follows_its_thing(tmp_path: Path, refresh: int) -> None:
    frames, masks = video(12)
    flow = expert(tmp_path, refresh=refresh)
    assert isinstance(flow, Expert)
    result = flow.run(request(frames), unheard, never)
    found = overlaps(result, masks)
    assert min(found) > 0.75
    assert (masks[0] & masks[-1]).sum() / (masks[0] | masks[-1]).sum() < 0.2  # it has moved
    assert result.provenance.backend == 'onnxruntime, classical flow'
    assert result.provenance.parameters == {'refresh': refresh, 'size': 320, 'threads': 1}


def test_looking_anew_takes_drift_away(tmp_path: Path) -> None:
    frames, masks = video(12)
    drifting = overlaps(expert(tmp_path, refresh=0).run(request(frames), unheard, never), masks)
    fresh = overlaps(expert(tmp_path, refresh=2).run(request(frames), unheard, never), masks)
    assert fresh[10] > drifting[10]
    assert fresh[10] > 0.9


def test_a_thing_that_leaves_the_picture_has_an_empty_mask(tmp_path: Path) -> None:
    ground = np.stack([np.tile(texture(), (1, 3)) // 4 + 40] * 3, axis=-1)
    cv2.circle(ground, (40, 60), 22, (250, 20, 20), -1)
    frames = [np.ascontiguousarray(ground[:, 6 * k : 6 * k + WIDTH]) for k in range(16)]
    result = expert(tmp_path).run(request(frames), unheard, never)
    areas = [masks[0].area for masks in result.frames]
    assert areas[3] > 0.9 * areas[0]
    assert areas[8] < 0.6 * areas[0]
    assert areas[15] < 0.05 * areas[0]


def test_a_cancel_stops_between_frames(tmp_path: Path) -> None:
    heard: list[float] = []
    with pytest.raises(Cancelled, match='flow'):
        expert(tmp_path).run(
            request(video(4)[0]), lambda p: heard.append(p.fraction), lambda: len(heard) == 2
        )
    assert heard == [0.0, 0.25]


def test_frames_of_two_sizes_and_wrong_options_are_refused(tmp_path: Path) -> None:
    frames, _ = video(2)
    with pytest.raises(ImageError, match='frame 1'):
        expert(tmp_path).run(request([frames[0], frames[1][:50]]), unheard, never)
    with pytest.raises(ConfigError, match='refresh -1'):
        expert(tmp_path, refresh=-1)
