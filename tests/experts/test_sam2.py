"""SAM 2.1 on an image, with a tiny model of the published architecture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='SAM 2 needs the extra [train]')
pytest.importorskip('transformers', reason='SAM 2 needs the extra [train]')

from tests.experts.tiny_sam2 import save_image_model, save_video_model  # noqa: E402
from unifiedmllm_ros.cancellation import never  # noqa: E402
from unifiedmllm_ros.errors import Cancelled, ConfigError, ModelFileError  # noqa: E402
from unifiedmllm_ros.experts.base import Expert, Request, unheard  # noqa: E402
from unifiedmllm_ros.experts.sam2 import (  # noqa: E402
    Sam2,
    full_size,
    pixel_values,
    scaled_boxes,
)
from unifiedmllm_ros.representation import Box, Region  # noqa: E402
from unifiedmllm_ros.router import pixel_boxes  # noqa: E402

LEFT, RIGHT = Box(0.1, 0.2, 0.4, 0.7), Box(0.5, 0.1, 0.9, 0.9)
SHAPE = (48, 80)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_image_model(tmp_path_factory.mktemp('sam2'))


@pytest.fixture(scope='module')
def expert(folder: Path) -> Sam2:
    return Sam2('sam2', folder)


def request(*boxes: Box, seed: int = 0) -> Request:
    image = np.random.default_rng(3).integers(0, 255, (*SHAPE, 3), dtype=np.uint8)
    regions = (Region('mug', boxes),)
    return Request(
        'seg', image=image, regions=regions, boxes=pixel_boxes(regions, *SHAPE), seed=seed
    )


def full(expert: Sam2, asked: Request) -> list[np.ndarray]:
    return [mask.full(*SHAPE) for mask in expert.run(asked, unheard, never).masks]


def test_each_box_has_its_mask_at_the_size_of_the_image(expert: Sam2) -> None:
    assert isinstance(expert, Expert)
    result = expert.run(request(LEFT, RIGHT), unheard, never)
    assert [mask.box for mask in result.masks] == [LEFT, RIGHT]
    first, second = (mask.full(*SHAPE) for mask in result.masks)
    assert 0 < first.sum() < first.size
    assert (first != second).any()  # the box matters
    assert result.provenance.weights.startswith('model.safetensors sha256:')
    assert result.provenance.parameters == {'device': 'cpu', 'dtype': 'float32'}


def test_masks_are_those_of_the_whole_model(expert: Sam2) -> None:
    asked = request(LEFT, RIGHT)
    expert.load()
    model = expert._model
    with torch.inference_mode():
        logits = model(
            pixel_values=pixel_values(asked.image, 64, model),
            input_boxes=scaled_boxes(asked.boxes, SHAPE, 64, model)[None],
            multimask_output=False,
        ).pred_masks[0]
        wanted = full_size(logits, SHAPE)[:, 0] > 0
    for found, one in zip(full(expert, asked), wanted.numpy(), strict=True):
        np.testing.assert_array_equal(found, one)


def test_pixels_are_resized_and_normalised_as_the_weights_expect(expert: Sam2) -> None:
    expert.load()
    plain = np.full((30, 50, 3), (124, 116, 104), np.uint8)
    pixels = pixel_values(plain, 64, expert._model)
    assert pixels.shape == (1, 3, 64, 64)
    assert float(pixels.abs().max()) < 0.02  # the mean of ImageNet


def test_the_image_is_encoded_once_for_many_boxes(
    expert: Sam2, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert.load()
    calls: list[Any] = []
    hook = expert._model.vision_encoder.register_forward_pre_hook(lambda *given: calls.append(1))
    boxes = [Box(0.01 * k, 0.1, 0.3 + 0.01 * k, 0.8) for k in range(50)]
    many = full(expert, request(*boxes))
    hook.remove()
    assert (len(many), len(calls)) == (50, 1)
    alone = full(expert, request(boxes[40]))[0]
    assert (many[40] != alone).mean() < 0.002  # sums in another order


def test_the_same_request_gives_the_same_masks(expert: Sam2) -> None:
    asked = request(LEFT, RIGHT)
    torch.manual_seed(1)
    first = full(expert, asked)
    torch.manual_seed(2)
    for one, two in zip(first, full(expert, asked), strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_checkpoint_for_video_serves_images_too(tmp_path: Path) -> None:
    expert = Sam2('sam2', save_video_model(tmp_path))
    assert len(full(expert, request(LEFT))) == 1


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_half_precision_runs(folder: Path, dtype: str, expert: Sam2) -> None:
    half = full(Sam2('half', folder, dtype=dtype), request(LEFT, RIGHT))
    for one, two in zip(half, full(expert, request(LEFT, RIGHT)), strict=True):
        assert (one == two).mean() > 0.8


def test_a_cancel_stops_before_the_boxes(expert: Sam2) -> None:
    heard: list[str] = []
    with pytest.raises(Cancelled, match='sam2'):
        expert.run(request(LEFT), lambda one: heard.append(one.phase), lambda: bool(heard))
    assert heard == ['image']


@pytest.mark.parametrize('file', ['config.json', 'model.safetensors'])
def test_a_missing_file_is_named(folder: Path, tmp_path: Path, file: str) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / 'copy'))
    (copy / file).unlink()
    with pytest.raises(ModelFileError, match=file.replace('.', r'\.')):
        Sam2('sam2', copy).load()


def test_other_and_damaged_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / 'copy'))
    config = json.loads((copy / 'config.json').read_text(encoding='utf-8'))
    (copy / 'config.json').write_text(json.dumps({**config, 'model_type': 'clip'}), 'utf-8')
    with pytest.raises(ModelFileError, match="'clip'"):
        Sam2('sam2', copy).load()
    (copy / 'config.json').write_text('{', 'utf-8')
    with pytest.raises(ModelFileError, match=r'config\.json'):
        Sam2('sam2', copy).load()
    shutil.copy(folder / 'config.json', copy)
    (copy / 'model.safetensors').write_bytes(b'no tensors')
    with pytest.raises(ModelFileError, match='cannot be read'):
        Sam2('sam2', copy).load()
    with pytest.raises(ConfigError, match="'int4'"):
        Sam2('sam2', folder, dtype='int4')
    with pytest.raises(ConfigError, match='needs weights'):
        Sam2('sam2', None)


def test_weights_without_a_tensor_are_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    copy = Path(shutil.copytree(folder, tmp_path / 'copy'))
    state = load_file(copy / 'model.safetensors')
    del state['mask_decoder.iou_token.weight']
    save_file(state, copy / 'model.safetensors', {'format': 'pt'})
    with pytest.raises(ModelFileError, match='iou_token'):
        Sam2('sam2', copy).load()
