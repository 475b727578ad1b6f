"""SAM 3 prompted by phrases, with a tiny model of the published architecture."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='SAM 3 needs the extra [train]')
pytest.importorskip('transformers', reason='SAM 3 needs the extra [train]')

from safetensors.torch import load_file, save_file  # noqa: E402

from tests.experts.seem.test_expert import write_tokenizer  # noqa: E402
from unifiedmllm_ros.cancellation import never  # noqa: E402
from unifiedmllm_ros.errors import (  # noqa: E402
    Cancelled,
    ConfigError,
    ExpertError,
    ModelFileError,
    RequestError,
)
from unifiedmllm_ros.experts.base import (  # noqa: E402
    Expert,
    Progress,
    Request,
    SegmentationResult,
    unheard,
)
from unifiedmllm_ros.experts.sam3 import Sam3, matched  # noqa: E402
from unifiedmllm_ros.representation import Box, Region  # noqa: E402
from unifiedmllm_ros.router import pixel_boxes  # noqa: E402

SHAPE = (48, 80)
LEFT, RIGHT = Box(0.1, 0.2, 0.4, 0.7), Box(0.3, 0.3, 0.8, 0.8)


def save(folder: Path) -> Path:
    """Write a Sam3Model with its tokenizer."""
    from transformers import Sam3Config

    layer = {
        'hidden_size': 32,
        'num_attention_heads': 4,
        'intermediate_size': 64,
        'num_layers': 1,
    }
    backbone = {
        'model_type': 'sam3_vit_model',
        'hidden_size': 32,
        'intermediate_size': 64,
        'num_hidden_layers': 2,
        'num_attention_heads': 4,
        'image_size': 56,
        'patch_size': 14,
        'window_size': 2,
        'global_attn_indexes': [1],
        'pretrain_image_size': 56,
    }
    text = {
        'vocab_size': 514,
        'hidden_size': 32,
        'intermediate_size': 64,
        'projection_dim': 32,
        'num_hidden_layers': 2,
        'num_attention_heads': 4,
        'max_position_embeddings': 32,
        'bos_token_id': 512,
        'eos_token_id': 513,
        'pad_token_id': 513,
    }
    config = Sam3Config(
        vision_config={
            'backbone_config': backbone,
            'fpn_hidden_size': 32,
            'backbone_feature_sizes': [[16, 16], [8, 8], [4, 4]],
        },
        text_config=text,
        geometry_encoder_config=layer,
        detr_encoder_config=layer,
        detr_decoder_config={**layer, 'num_queries': 10},
        mask_decoder_config={'hidden_size': 32, 'num_attention_heads': 4},
    )
    torch.manual_seed(0)
    model = importlib.import_module('transformers.models.sam3.modeling_sam3').Sam3Model(config)
    with torch.no_grad():  # fresh weights are so small that prompts hardly matter
        for value in model.parameters():
            if value.dim() > 1:
                value.normal_(std=1.0 / value[0].numel() ** 0.5)
    model.save_pretrained(folder)
    write_tokenizer(folder / 'tokenizer.json')
    return folder


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp('sam3'))


@pytest.fixture(scope='module')
def expert(folder: Path) -> Sam3:
    return Sam3('sam3', folder, threshold=0.0, overlap=0.0)


def request(*regions: Region, **parameters: Any) -> Request:
    image = np.random.default_rng(3).integers(0, 255, (*SHAPE, 3), dtype=np.uint8)
    regions = regions or (Region('red mug', (LEFT, RIGHT)),)
    return Request(
        'seg',
        image=image,
        regions=regions,
        boxes=pixel_boxes(regions, *SHAPE),
        parameters=parameters,
    )


def run(expert: Sam3, asked: Request) -> SegmentationResult:
    return expert.run(asked, unheard, never)


def full(expert: Sam3, asked: Request) -> list[np.ndarray]:
    return [mask.full(*SHAPE) for mask in run(expert, asked).masks]


def test_each_box_has_its_mask(expert: Sam3) -> None:
    heard: list[Progress] = []
    assert isinstance(expert, Expert)
    result = expert.run(request(), heard.append, never)
    assert [mask.box for mask in result.masks] == [LEFT, RIGHT]
    first, second = (mask.full(*SHAPE) for mask in result.masks)
    assert (first != second).any()  # two instances
    shares = [progress.fraction for progress in heard]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    source = result.provenance
    assert source.weights.startswith('model.safetensors sha256:')
    assert (source.device, source.dtype, source.notices) == ('cpu', 'float32', ())
    assert source.parameters['threshold'] == 0.0


def test_masks_are_those_of_the_whole_model(expert: Sam3) -> None:
    asked = request(Region('mug', (LEFT,)))
    expert.load()
    ids, attended = expert._tokens('mug')
    with torch.inference_mode():
        whole = expert._model(
            pixel_values=expert._pixels(asked.image), input_ids=ids, attention_mask=attended
        )
    boxes = whole.pred_boxes[0].numpy()
    (chosen,) = matched(asked.boxes, boxes, SHAPE, 0.0)
    shares = torch.nn.functional.interpolate(
        whole.pred_masks[0, chosen].sigmoid()[None, None], size=SHAPE, mode='bilinear'
    )
    np.testing.assert_array_equal(full(expert, asked)[0], (shares[0, 0] > 0.5).numpy())


def test_the_phrase_matters_and_the_image_is_encoded_once(expert: Sam3) -> None:
    calls: list[int] = []
    expert.load()
    hook = expert._model.vision_encoder.register_forward_pre_hook(lambda *_: calls.append(1))
    mug, can = full(expert, request(Region('mug', (LEFT,)), Region('blue can', (LEFT,))))
    hook.remove()
    assert (mug != can).any()
    assert len(calls) == 1
    np.testing.assert_array_equal(full(expert, request(Region('mug', (LEFT,))))[0], mug)


def test_what_is_not_found_is_an_empty_mask_and_a_notice(expert: Sam3) -> None:
    result = run(expert, request(threshold=1.0))
    assert [mask.area for mask in result.masks] == [0, 0]
    assert len([one for one in result.provenance.notices if "No 'red mug'" in one]) == 2


def test_instances_are_paired_by_overlap_and_belong_to_one_box() -> None:
    regions = (Region('x', (Box(0.0, 0.0, 0.5, 1.0), Box(0.4, 0.0, 1.0, 1.0))),)
    boxes = pixel_boxes(regions, *SHAPE)
    found = np.array([[0.5, 0, 1, 1], [0, 0, 0.5, 1], [0.45, 0, 1, 1]], np.float32)
    assert matched(boxes, found, SHAPE, 0.3) == [1, 2]
    assert matched(boxes, found[:1], SHAPE, 0.3) == [None, 0]
    assert matched(boxes, found[1:2], SHAPE, 1.0) == [0, None]
    assert matched(boxes, np.zeros((0, 4), np.float32), SHAPE, 0.0) == [None, None]
    assert matched(boxes, np.zeros((1, 4), np.float32), SHAPE, 0.0) == [None, None]


def test_a_long_phrase_is_cut_and_says_so(expert: Sam3) -> None:
    result = run(expert, request(Region('x' * 5000, (LEFT,))))
    assert any('4970 tokens' in notice for notice in result.provenance.notices)


def test_phrases_and_limits_are_checked(expert: Sam3, folder: Path) -> None:
    nameless = Request(
        'seg', image=request().image, boxes=pixel_boxes((Region('', (LEFT,)),), *SHAPE)
    )
    with pytest.raises(ExpertError, match='phrase'):
        run(expert, nameless)
    with pytest.raises(RequestError, match='threshold'):
        run(expert, request(threshold=2))
    with pytest.raises(ConfigError, match='overlap'):
        Sam3('sam3', folder, overlap='much')
    with pytest.raises(ConfigError, match='needs weights'):
        Sam3('sam3', None)


def test_a_cancel_stops_before_a_phrase(expert: Sam3) -> None:
    heard: list[str] = []
    with pytest.raises(Cancelled, match='sam3'):
        expert.run(request(), lambda one: heard.append(one.phase), lambda: bool(heard))
    assert heard == ['image']
    assert len(full(expert, request())) == 2


def test_the_checkpoint_for_video_serves_images_too(
    expert: Sam3, folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / 'video'))
    config = json.loads((copy / 'config.json').read_text('utf-8'))
    video = {'model_type': 'sam3_video', 'detector_config': config}
    (copy / 'config.json').write_text(json.dumps(video), 'utf-8')
    state = load_file(folder / 'model.safetensors')
    named = {f'detector_model.{name}': value for name, value in state.items()}
    save_file(named, copy / 'model.safetensors', metadata={'format': 'pt'})
    both = zip(
        full(Sam3('v', copy, threshold=0.0, overlap=0.0), request()),
        full(expert, request()),
        strict=True,
    )
    for one, two in both:
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize('file', ['config.json', 'model.safetensors', 'tokenizer.json'])
def test_a_missing_file_is_named(folder: Path, tmp_path: Path, file: str) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / 'copy'))
    (copy / file).unlink()
    with pytest.raises(ModelFileError, match=file.replace('.', r'\.')):
        Sam3('sam3', copy).load()


def test_other_and_incomplete_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / 'copy'))
    state = load_file(folder / 'model.safetensors')
    del state['text_projection.weight']
    save_file(state, copy / 'model.safetensors', metadata={'format': 'pt'})
    with pytest.raises(ModelFileError, match='text_projection'):
        Sam3('sam3', copy).load()
    (copy / 'model.safetensors').write_bytes(b'no tensors')
    with pytest.raises(ModelFileError, match='cannot be read'):
        Sam3('sam3', copy).load()
    (copy / 'config.json').write_text(json.dumps({'model_type': 'sam2'}), 'utf-8')
    with pytest.raises(ModelFileError, match="'sam2'"):
        Sam3('sam3', copy).load()
