"""Videos from text and from an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.experts.diffusion.asking import Heard, image, pixels, request, run
from unifiedmllm_ros.cancellation import never
from unifiedmllm_ros.errors import MissingImageError, RequestError
from unifiedmllm_ros.experts.base import VideoResult
from unifiedmllm_ros.experts.diffusion.video import ImageToVideo, TextToVideo, _penultimate

CLIP = {'width': 64, 'height': 64, 'frames': 3, 'steps': 2}


@pytest.fixture(scope='module')
def text_to_video(twin: Callable[[str], Path]) -> Iterator[TextToVideo]:
    made = TextToVideo('t2v', twin('modelscope_t2v'), **CLIP)
    made.load()
    yield made
    made.unload()


@pytest.fixture(scope='module')
def image_to_video(twin: Callable[[str], Path]) -> Iterator[ImageToVideo]:
    made = ImageToVideo('i2v', twin('i2vgen_xl'), **CLIP)
    made.load()
    yield made
    made.unload()


def test_a_video_has_the_frames_size_and_rate_asked_for(text_to_video: TextToVideo) -> None:
    asked = request('vidgen', parameters={'frames': 4, 'width': 70, 'height': 48, 'rate': 12})
    result = run(text_to_video, asked)
    assert isinstance(result, VideoResult)
    assert [frame.shape for frame in result.frames] == [(48, 64, 3)] * 4
    assert result.rate == 12
    assert any('70x48 became 64x48' in notice for notice in result.provenance.notices)
    assert not np.array_equal(result.frames[0], result.frames[1])


def test_frames_decoded_one_by_one_are_the_same_and_heard(
    twin: Callable[[str], Path], text_to_video: TextToVideo
) -> None:
    sliced = TextToVideo('t2v', twin('modelscope_t2v'), vae_slicing=True, **CLIP)
    heard = Heard()
    result = sliced.run(request('vidgen'), heard, never)
    assert np.allclose(pixels(result), pixels(run(text_to_video, request('vidgen'))), atol=1)
    assert sum(one.phase == 'decode' for one in heard) == 3 + 1


def test_another_length_than_asked_for_is_told(twin: Callable[[str], Path]) -> None:
    expert = TextToVideo(
        'wan',
        twin('wan'),
        pipeline='WanPipeline',
        width=32,
        height=32,
        frames=6,
        steps=2,
        arguments={'max_sequence_length': 48},
    )
    source = run(expert, request('vidgen')).provenance
    assert source.parameters['frames'] == 5
    assert any('5 frames and not 6' in notice for notice in source.notices)


@pytest.mark.parametrize('size', [(64, 64), (50, 90), (120, 31), (1, 1)])
def test_images_of_any_size_come_to_life(
    image_to_video: ImageToVideo, size: tuple[int, int]
) -> None:
    result = run(image_to_video, request('imgvid', image=image(*size)))
    assert [frame.shape for frame in result.frames] == [(64, 64, 3)] * 3
    assert result.rate == 16


def test_image_prompt_rate_and_what_is_unwanted_matter(image_to_video: ImageToVideo) -> None:
    picture = image()
    plain = pixels(run(image_to_video, request('imgvid', image=picture)))
    for other in (
        request('imgvid', image=255 - picture),
        request('imgvid', 'a blue plate', image=picture),
        request('imgvid', image=picture, parameters={'rate': 4}),
        request('imgvid', image=picture, parameters={'negative_prompt': 'dark'}),
    ):
        assert not np.array_equal(pixels(run(image_to_video, other)), plain)


def test_the_prompt_is_read_before_the_last_layer(image_to_video: ImageToVideo) -> None:
    """As a text encoder without its last layer reads it, which is what the weights expect."""
    import torch
    from transformers import CLIPTextModel

    pipeline = image_to_video._loaded.pipeline  # type: ignore[union-attr]
    whole = pipeline.text_encoder
    config = type(whole.config).from_dict({**whole.config.to_dict(), 'num_hidden_layers': 1})
    shorter = CLIPTextModel(config).eval()
    shorter.load_state_dict(whole.state_dict(), strict=False)
    ids = pipeline.tokenizer(
        'a red mug', padding='max_length', max_length=77, return_tensors='pt'
    ).input_ids
    with torch.no_grad():
        expected = shorter(ids)[0]
        last = whole(ids)[0]
    assert torch.equal(_penultimate(pipeline, 'a red mug'), expected)
    assert not torch.equal(expected, last)


def test_a_video_of_an_image_has_two_frames_at_least(image_to_video: ImageToVideo) -> None:
    with pytest.raises(RequestError, match='frames'):
        run(image_to_video, request('imgvid', image=image(), parameters={'frames': 1}))
    with pytest.raises(MissingImageError, match='i2v'):
        run(image_to_video, request('imgvid'))
