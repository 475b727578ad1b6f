"""SAM 2.1 on video, with a tiny model of the published architecture."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='SAM 2 needs the extra [train]')
pytest.importorskip('transformers', reason='SAM 2 needs the extra [train]')

from tests.experts.tiny_sam2 import save_video_model  # noqa: E402
from unifiedmllm_ros.cancellation import never  # noqa: E402
from unifiedmllm_ros.errors import Cancelled, ImageError  # noqa: E402
from unifiedmllm_ros.experts.base import Expert, PixelBox, Request, unheard  # noqa: E402
from unifiedmllm_ros.experts.sam2_video import Sam2Stream, Sam2Video  # noqa: E402
from unifiedmllm_ros.representation import Box, Region  # noqa: E402
from unifiedmllm_ros.router import pixel_boxes  # noqa: E402

LEFT, RIGHT = Box(0.1, 0.2, 0.4, 0.7), Box(0.5, 0.1, 0.9, 0.9)
SHAPE = (48, 80)
REACH = 16  # frames that the model looks back


@pytest.fixture(scope='module')
def expert(tmp_path_factory: pytest.TempPathFactory) -> Sam2Video:
    return Sam2Video('video', save_video_model(tmp_path_factory.mktemp('sam2_video')))


def frames(count: int) -> list[np.ndarray]:
    noise = np.random.default_rng(5).integers(0, 255, (*SHAPE, 3), dtype=np.uint8)
    return [np.roll(noise, 2 * index, axis=1) for index in range(count)]


def places(*boxes: Box) -> tuple[PixelBox, ...]:
    return pixel_boxes((Region('mug', boxes),), *SHAPE)


def followed(stream: Sam2Stream, video: list[np.ndarray], joins: dict[int, Box]) -> list[list]:
    out = []
    for index, image in enumerate(video):
        new = places(joins[index]) if index in joins else ()
        out.append([mask.full(*SHAPE) for mask in stream.step(image, new)])
    return out


def kept(stream: Sam2Stream) -> int:
    """Bytes of all tensors that the session holds."""
    session, total = stream.session, 0
    waiting: list[object] = [
        session.processed_frames,
        session.output_dict_per_obj,
        session.frames_tracked_per_obj,
        session.point_inputs_per_obj,
    ]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += one.values()
            total += 8 * len(one)
        elif torch.is_tensor(one):
            total += one.numel() * one.element_size()
    return total


def test_pruning_changes_nothing_and_memory_is_flat(expert: Sam2Video) -> None:
    expert.load()
    video, joins = frames(REACH + 14), {0: LEFT, 3: RIGHT}
    pruned, whole = expert.stream(), Sam2Stream(expert._model, 'video', prune=False)
    for index, (some, every) in enumerate(
        zip(followed(pruned, video, joins), followed(whole, video, joins), strict=True)
    ):
        assert len(some) == len(every) == (1 if index < 3 else 2)
        for one, two in zip(some, every, strict=True):
            np.testing.assert_array_equal(one, two)
    settled = kept(pruned)
    followed(pruned, frames(10), {})
    assert kept(pruned) == settled
    assert kept(whole) > 1.5 * settled


def test_what_was_seen_before_matters(expert: Sam2Video) -> None:
    one, two = frames(3), frames(3)
    two[1] = 255 - two[1]
    first = followed(expert.stream(), one, {0: LEFT})
    second = followed(expert.stream(), two, {0: LEFT})
    np.testing.assert_array_equal(first[0], second[0])
    assert (first[2][0] != second[2][0]).any()


def test_an_object_that_joins_does_not_disturb_the_others(expert: Sam2Video) -> None:
    video = frames(5)
    alone = followed(expert.stream(), video, {0: LEFT})
    joined = followed(expert.stream(), video, {0: LEFT, 2: RIGHT})
    for index in range(5):
        # The memories of all objects are encoded together: sums in another order.
        assert (alone[index][0] != joined[index][0]).mean() < 0.01
    assert (joined[2][1] != joined[2][0]).any()


def test_nothing_is_found_before_there_is_an_object(expert: Sam2Video) -> None:
    found = followed(expert.stream(), frames(4), {2: LEFT})
    assert [len(masks) for masks in found] == [0, 0, 1, 1]


def asked(count: int) -> Request:
    video = frames(count)
    boxes = places(LEFT, RIGHT)
    return Request('vidseg', image=video[0], boxes=boxes, frames=video[1:])


def test_a_request_gives_the_masks_of_every_frame(expert: Sam2Video) -> None:
    assert isinstance(expert, Expert)
    result = expert.run(asked(4), unheard, never)
    assert [len(masks) for masks in result.frames] == [2, 2, 2, 2]
    again = expert.run(asked(4), unheard, never)
    for one, two in zip(result.frames, again.frames, strict=True):
        for first, second in zip(one, two, strict=True):
            np.testing.assert_array_equal(first.full(*SHAPE), second.full(*SHAPE))
    assert result.provenance.weights.startswith('model.safetensors sha256:')


def test_a_cancel_stops_between_frames(expert: Sam2Video) -> None:
    heard: list[float] = []
    with pytest.raises(Cancelled, match='video'):
        expert.run(asked(4), lambda p: heard.append(p.fraction), lambda: len(heard) == 2)
    assert heard == [0.0, 0.25]


def test_frames_of_another_size_are_refused(expert: Sam2Video) -> None:
    stream = expert.stream()
    stream.step(frames(1)[0], places(LEFT))
    with pytest.raises(ImageError, match='48'):
        stream.step(np.zeros((20, 20, 3), np.uint8))
