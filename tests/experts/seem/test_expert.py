"""SEEM behind the expert protocol, with the tiny weights of the conformance fixture."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='SEEM needs the extra [train]')

from safetensors.torch import load_file, save_file  # noqa: E402

from tests.experts.seem.test_conformance import DATA, TINY, expected, given  # noqa: E402
from unifiedmllm_ros.cancellation import never  # noqa: E402
from unifiedmllm_ros.errors import (  # noqa: E402
    Cancelled,
    ConfigError,
    ExpertError,
    ModelError,
    ModelFileError,
)
from unifiedmllm_ros.experts.base import Expert, Progress, Request, unheard  # noqa: E402
from unifiedmllm_ros.experts.seem.configuration import FOCAL_L, FOCAL_T  # noqa: E402
from unifiedmllm_ros.experts.seem.expert import Seem  # noqa: E402
from unifiedmllm_ros.experts.seem.modeling import SeemModel  # noqa: E402
from unifiedmllm_ros.experts.seem.weights import variant  # noqa: E402
from unifiedmllm_ros.representation import Box, Region  # noqa: E402
from unifiedmllm_ros.router import pixel_boxes  # noqa: E402

WEIGHTS = DATA / 'seem_focalt_tiny.weights.safetensors'
LEFT, RIGHT = Box(0.1, 0.2, 0.4, 0.7), Box(0.5, 0.1, 0.9, 0.9)


def seem(path: Path = WEIGHTS, **options: object) -> Seem:
    return Seem('seem', path, config=TINY, **{'short_side': 64, **options})


def request(*boxes: Box, seed: int = 0, **parameters: object) -> Request:
    image = np.random.default_rng(3).integers(0, 255, (48, 80, 3), dtype=np.uint8)
    regions = (Region('red mug', boxes or (LEFT, RIGHT)),)
    return Request(
        'seg',
        image=image,
        regions=regions,
        boxes=pixel_boxes(regions, 48, 80),
        seed=seed,
        parameters=parameters,
    )


def full(expert: Seem, asked: Request) -> list[np.ndarray]:
    return [mask.full(48, 80) for mask in expert.run(asked, unheard, never).masks]


def test_a_box_gives_the_mask_that_the_published_code_gives() -> None:
    image = given('a.image').permute(1, 2, 0).numpy()
    rows, columns = np.nonzero(given('a.box').numpy())
    box = Box(columns.min() / 96, rows.min() / 64, (columns.max() + 1) / 96, (rows.max() + 1) / 64)
    regions = (Region('thing', (box,)),)
    asked = Request('seg', image=image, regions=regions, boxes=pixel_boxes(regions, 64, 96))
    (mask,) = seem().run(asked, unheard, never).masks
    wanted = expected('a.box.mask_logits')[0].numpy() > 0
    assert wanted.any()
    assert (mask.full(64, 96) != wanted).sum() <= 2


def test_masks_come_in_the_order_of_the_boxes_with_their_provenance() -> None:
    heard: list[Progress] = []
    expert = seem()
    assert isinstance(expert, Expert)
    result = expert.run(request(seed=5), heard.append, never)
    assert [mask.box for mask in result.masks] == [LEFT, RIGHT]
    shares = [progress.fraction for progress in heard]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    provenance = result.provenance
    assert provenance.weights.startswith(f'{WEIGHTS.name} sha256:')
    assert (provenance.backend, provenance.seed) == ('torch', 5)
    assert provenance.parameters == {'prompt': 'region', 'short_side': 64, 'device': 'cpu'}


def test_a_mask_depends_on_its_box_and_the_seed_alone() -> None:
    expert = seem(short_side=128)  # regions of more points than are drawn: the seed matters
    torch.manual_seed(1)
    both = full(expert, request(LEFT, RIGHT, seed=7))
    torch.manual_seed(2)
    alone = full(expert, request(RIGHT, seed=7))
    np.testing.assert_array_equal(both[1], alone[0])
    features = expert._model.features(expert._tensor(request().image))
    mask = torch.ones(features.size, dtype=torch.bool)
    keys = [
        expert._model.region(features, mask, torch.Generator().manual_seed(seed)).key
        for seed in (7, 8, 7)
    ]
    assert torch.equal(keys[0], keys[2])
    assert not torch.equal(keys[0], keys[1])


def test_one_pixel_and_the_whole_image_are_boxes_too() -> None:
    asked = request(Box(0.999, 0.999, 1.0, 1.0), Box(0.0, 0.0, 1.0, 1.0))
    assert [mask.shape for mask in full(seem(), asked)] == [(48, 80), (48, 80)]


def write_tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = {chr(97 + index): index for index in range(26)}
    specials = {'<|startoftext|>': 512, '<|endoftext|>': 513}
    tokenizer = Tokenizer(models.WordLevel({**letters, **specials}, unk_token='a'))
    tokenizer.pre_tokenizer = pre_tokenizers.Split('', 'isolated')
    tokenizer.save(str(path))


def test_a_thing_is_found_by_its_phrase(tmp_path: Path) -> None:
    weights = shutil.copy(WEIGHTS, tmp_path / 'seem.safetensors')
    write_tokenizer(tmp_path / 'tokenizer.json')
    result = seem(weights).run(request(prompt='text'), unheard, never)
    assert result.provenance.parameters['prompt'] == 'text'
    first, second = (mask.full(48, 80) for mask in result.masks)
    np.testing.assert_array_equal(first, second)  # one phrase, whatever the boxes


def test_a_text_prompt_needs_a_tokenizer_and_a_phrase(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r'tokenizer\.json'):
        seem(shutil.copy(WEIGHTS, tmp_path / 'x.safetensors'), prompt='text').run(
            request(), unheard, never
        )
    nameless = request(prompt='text')
    boxes = pixel_boxes((Region('', (LEFT,)),), 48, 80)
    asked = Request('seg', image=nameless.image, boxes=boxes, parameters={'prompt': 'text'})
    with pytest.raises(ExpertError, match='phrase'):
        seem().run(asked, unheard, never)


def test_a_cancel_stops_between_boxes_and_the_next_run_is_whole() -> None:
    expert, heard = seem(), []
    with pytest.raises(Cancelled, match='seem'):
        expert.run(request(), heard.append, lambda: len(heard) == 2)
    assert [progress.phase for progress in heard] == ['image', 'segment']
    assert len(full(expert, request())) == 2


def test_a_pickled_checkpoint_is_read_and_code_in_one_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / 'seem.pt'
    torch.save({**load_file(WEIGHTS), 'criterion.empty_weight': torch.ones(6)}, path)
    for found, wanted in zip(full(seem(path), request()), full(seem(), request()), strict=True):
        np.testing.assert_array_equal(found, wanted)

    class Runs:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (Path.touch, (tmp_path / 'ran',))

    path.write_bytes(pickle.dumps({'x': Runs()}, protocol=2))
    with pytest.raises(ModelFileError, match=r'seem\.pt'):
        seem(path).load()
    assert not (tmp_path / 'ran').exists()


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match='not there'):
        seem(tmp_path / 'none.pt').load()
    (tmp_path / 'half.safetensors').write_bytes(WEIGHTS.read_bytes()[:5000])
    with pytest.raises(ModelFileError, match=r'half\.safetensors'):
        seem(tmp_path / 'half.safetensors').load()
    with pytest.raises(ModelFileError, match='Focal-T or Focal-L'):
        Seem('seem', WEIGHTS).load()
    state = load_file(WEIGHTS)
    del state['sem_seg_head.predictor.class_embed']
    save_file(state, tmp_path / 'less.safetensors')
    with pytest.raises(ModelFileError, match=r'1 tensors.*class_embed'):
        seem(tmp_path / 'less.safetensors').load()


def test_weights_that_give_no_numbers_are_an_error(tmp_path: Path) -> None:
    state = load_file(WEIGHTS)
    state['sem_seg_head.pixel_decoder.mask_features.bias'].fill_(float('nan'))
    save_file(state, tmp_path / 'nan.safetensors')
    with pytest.raises(ModelError, match='not finite'):
        seem(tmp_path / 'nan.safetensors').run(request(), unheard, never)


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match='needs weights'):
        Seem('seem', None)
    with pytest.raises(ConfigError, match="'point'"):
        seem(prompt='point')
    with pytest.raises(ConfigError, match='short_side 8'):
        seem(short_side=8)


@pytest.mark.parametrize(
    ('config', 'tensors', 'millions'), [(FOCAL_T, 725, 164.6), (FOCAL_L, 929, 341.2)]
)
def test_the_published_variants_have_their_published_size(
    config: object, tensors: int, millions: float
) -> None:
    with torch.device('meta'):
        model = SeemModel(config)
    state = model.state_dict()
    # 728 and 932 keys in the checkpoints, three of which have no effect.
    assert len(state) == tensors
    assert sum(value.numel() for value in state.values()) / 1e6 == pytest.approx(millions, abs=0.1)
    assert variant(state, Path('x.pt')) is config
