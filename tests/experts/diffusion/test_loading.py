"""Folders of weights: what is refused and why, and the odd ways in which GLIGEN was published."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.experts.diffusion.asking import Heard, pixels, region, request, run
from tests.experts.diffusion.twins import rewrite
from unifiedmllm_ros.errors import Cancelled, ConfigError, MissingExtraError, ModelFileError
from unifiedmllm_ros.experts.diffusion.gligen import GligenLayout
from unifiedmllm_ros.experts.diffusion.instruct_pix2pix import InstructPix2Pix
from unifiedmllm_ros.experts.diffusion.region_edit import GligenInpaint, Inpaint
from unifiedmllm_ros.experts.diffusion.text_to_image import TextToImage
from unifiedmllm_ros.experts.diffusion.video import ImageToVideo, TextToVideo

SIZE: dict[str, Any] = {'width': 64, 'height': 64, 'steps': 2}
WEIGHTS = 'diffusion_pytorch_model.safetensors'
MUG = (region('mug', (0.1, 0.1, 0.6, 0.7)),)


@pytest.fixture
def copied(twin: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Return a copy of a twin, to be spoilt."""
    return lambda name: Path(shutil.copytree(twin(name), tmp_path / name))


@pytest.mark.parametrize(
    ('lost', 'named'),
    [
        ('model_index.json', 'model_index.json'),
        ('unet', 'unet'),
        ('scheduler', 'scheduler'),
        ('tokenizer', 'tokenizer'),
        (f'unet/{WEIGHTS}', 'unet'),
        ('unet/config.json', 'config.json'),
        (f'vae/{WEIGHTS}', 'vae'),
        ('text_encoder/model.safetensors', 'text_encoder'),
    ],
)
def test_a_missing_file_is_named_with_where_it_comes_from(
    copied: Callable[[str], Path], lost: str, named: str
) -> None:
    folder = copied('stable_diffusion')
    path = folder / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ModelFileError, match=named) as caught:
        TextToImage('sd', folder).load()
    assert 'stable-diffusion-v1-5/stable-diffusion-v1-5' in str(caught.value)
    assert "'sd'" in str(caught.value)


@pytest.mark.parametrize(
    ('kind', 'held', 'reason'),
    [
        (TextToImage, 'instruct_pix2pix', 'StableDiffusionInstructPix2PixPipeline'),
        (TextToImage, 'sdxl', 'pipeline under its defaults to StableDiffusionXLPipeline'),
        (InstructPix2Pix, 'stable_diffusion', 'timbrooks/instruct-pix2pix'),
        (Inpaint, 'gligen_inpaint', 'stable-diffusion-inpainting'),
        (GligenLayout, 'stable_diffusion', 'no gated attention'),
        (GligenLayout, 'gligen_inpaint', 'takes 9 channels'),
        (GligenInpaint, 'gligen', 'takes 4 channels'),
        (TextToVideo, 'i2vgen_xl', 'I2VGenXLPipeline'),
        (ImageToVideo, 'modelscope_t2v', 'ali-vilab/i2vgen-xl'),
    ],
)
def test_another_model_is_refused_before_it_is_read(
    twin: Callable[[str], Path], kind: Any, held: str, reason: str
) -> None:
    with pytest.raises(ModelFileError, match=reason):
        kind('expert', twin(held)).load()


def test_a_lost_tensor_is_no_warning_but_an_error(copied: Callable[[str], Path]) -> None:
    from safetensors.torch import load_file, save_file

    folder = copied('stable_diffusion')
    for part, file, tensor in (
        ('text_encoder', 'model.safetensors', 'final_layer_norm.weight'),
        ('unet', WEIGHTS, 'conv_in.weight'),
    ):
        path = folder / part / file
        whole = path.read_bytes()
        state = load_file(path)
        lost = next(key for key in state if key.endswith(tensor))
        del state[lost]
        save_file(state, path, {'format': 'pt'})
        with pytest.raises(ModelFileError, match=tensor):
            TextToImage('sd', folder).load()
        path.write_bytes(whole)
    TextToImage('sd', folder).load()


def test_damaged_files_are_told_of(copied: Callable[[str], Path]) -> None:
    folder = copied('stable_diffusion')
    weights = folder / 'unet' / WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFileError, match='again'):
        TextToImage('sd', folder).load()
    weights.write_bytes(whole)
    for text in ('{', '[]', '\0'):
        (folder / 'model_index.json').write_text(text, encoding='utf-8')
        with pytest.raises(ModelFileError, match='model_index'):
            TextToImage('sd', folder).load()


def test_a_part_is_a_folder_inside_and_nowhere_else(copied: Callable[[str], Path]) -> None:
    folder = copied('stable_diffusion')
    rewrite(folder / 'model_index.json', **{'../../other': ['diffusers', 'UNet2DConditionModel']})
    with pytest.raises(ModelFileError, match='no name of a part'):
        TextToImage('sd', folder).load()


@pytest.mark.parametrize(
    'changes',
    [{'_class_name': ['evil', 'Pipeline']}, {'unet': ['evil', 'Net']}, {'vae': ['os', 'mkdir']}],
)
@pytest.mark.parametrize('pipeline', ['StableDiffusionPipeline', 'DiffusionPipeline'])
def test_code_in_a_folder_is_not_run(
    copied: Callable[[str], Path], tmp_path: Path, changes: dict[str, Any], pipeline: str
) -> None:
    folder = copied('stable_diffusion')
    rewrite(folder / 'model_index.json', **changes)
    for place in (folder, folder / 'unet'):
        (place / 'evil.py').write_text(f'import os; os.mkdir({str(tmp_path / "owned")!r})')
    with pytest.raises(ModelFileError, match='not run'):
        TextToImage('sd', folder, pipeline=pipeline).load()
    assert not (tmp_path / 'owned').exists()


@pytest.fixture
def as_published(copied: Callable[[str], Path]) -> Path:
    """GLIGEN as masterful/gligen-1-4-* hold it: pickled half-precision weights and no others."""
    import torch
    from safetensors.torch import load_file

    folder = copied('gligen')
    for path in sorted(folder.rglob('*.safetensors')):
        state = {key: value.half() for key, value in load_file(path).items()}
        stem = path.stem if path.stem.startswith('diffusion') else 'pytorch_model'
        torch.save(state, path.parent / f'{stem}.fp16.bin')
        path.unlink()
    return folder


def test_pickled_variants_load_as_tensors(as_published: Path, twin: Callable[[str], Path]) -> None:
    asked = request('layout', regions=MUG)
    result = run(GligenLayout('gligen', as_published, variant='fp16', **SIZE), asked)
    assert 'diffusion_pytorch_model.fp16.bin sha256:' in result.provenance.weights
    whole = pixels(run(GligenLayout('gligen', twin('gligen'), **SIZE), asked))
    assert np.abs(pixels(result).astype(int) - whole).mean() < 2  # the weights lost half their bits


def test_without_naming_the_variant_the_remedy_is_told(as_published: Path) -> None:
    with pytest.raises(ModelFileError, match='variant fp16 only'):
        GligenLayout('gligen', as_published, **SIZE).load()


class Payload:
    """What a pickle can do to whoever opens it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('part', ['unet', 'text_encoder', 'safety_checker'])
def test_a_pickle_that_would_run_code_does_not(
    as_published: Path, tmp_path: Path, part: str
) -> None:
    (path,) = (as_published / part).glob('*.bin')
    path.write_bytes(pickle.dumps(Payload(tmp_path / 'owned')))
    with pytest.raises(ModelFileError):
        GligenLayout('gligen', as_published, variant='fp16', **SIZE).load()
    assert not (tmp_path / 'owned').exists()


def test_older_gligen_folders_keep_their_boxes(
    copied: Callable[[str], Path], twin: Callable[[str], Path]
) -> None:
    """gligen/* say `use_gated_attention`, at which newer libraries drop all of the grounding."""
    folder = copied('gligen')
    rewrite(folder / 'unet' / 'config.json', attention_type=None, use_gated_attention=True)
    asked = request('layout', regions=MUG)
    old, new = (
        pixels(run(GligenLayout('gligen', one, **SIZE), asked)) for one in (folder, twin('gligen'))
    )
    assert np.array_equal(old, new)


def test_older_names_of_tensors_are_known(
    copied: Callable[[str], Path], twin: Callable[[str], Path]
) -> None:
    """Stable Diffusion 1's autoencoder and text encoder were saved under other names."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = copied('stable_diffusion')
    older = {'to_q': 'query', 'to_k': 'key', 'to_v': 'value', 'to_out.0': 'proj_attn'}
    path = folder / 'vae' / WEIGHTS
    state = load_file(path)
    assert any('.to_q.' in key for key in state)
    save_file({_renamed(key, older): value for key, value in state.items()}, path, {'format': 'pt'})
    path = folder / 'text_encoder' / 'model.safetensors'
    state = {f'text_model.{k.removeprefix("text_model.")}': v for k, v in load_file(path).items()}
    state['text_model.embeddings.position_ids'] = torch.arange(77)[None]
    save_file(state, path, {'format': 'pt'})
    old, new = (
        pixels(run(TextToImage('sd', one, **SIZE), request('gen')))
        for one in (folder, twin('stable_diffusion'))
    )
    assert np.array_equal(old, new)


def _renamed(key: str, names: dict[str, str]) -> str:
    for new, old in names.items():
        key = key.replace(f'.{new}.', f'.{old}.')
    return key


def test_weights_that_no_network_takes_are_of_another_model(copied: Callable[[str], Path]) -> None:
    """A gated U-Net whose configuration does not say so would lose its grounding in silence."""
    folder = copied('gligen')
    rewrite(folder / 'unet' / 'config.json', attention_type='default')
    with pytest.raises(ModelFileError, match='does not take'):
        TextToImage('sd', folder).load()


def test_without_diffusers_the_extra_is_named(
    twin: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'diffusers', None)
    with pytest.raises(MissingExtraError, match=r'\[experts\]'):
        TextToImage('sd', twin('stable_diffusion')).load()


@pytest.mark.parametrize(
    ('defaults', 'reason'),
    [
        ({'pipeline': 'os'}, 'no pipeline of diffusers'),
        ({'pipeline': 'UNet2DConditionModel'}, 'no pipeline of diffusers'),
        ({'device': 'nowhere'}, 'no device'),
    ],
)
def test_configuration_that_cannot_be_is_refused_when_loading(
    twin: Callable[[str], Path], defaults: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(twin('stable_diffusion'), tmp_path / 'copy'))
    if 'pipeline' in defaults:
        rewrite(folder / 'model_index.json', _class_name=defaults['pipeline'])
    with pytest.raises(ConfigError, match=reason):
        TextToImage('sd', folder, **defaults).load()


@pytest.mark.parametrize(
    ('defaults', 'reason'),
    [
        ({'steps': 0}, 'steps'),
        ({'dtype': 'int8'}, 'dtype'),
        ({'offload': 'moon'}, 'offload'),
        ({'stpes': 3}, 'stpes'),
    ],
)
def test_configuration_that_cannot_be_is_refused_at_once(
    tmp_path: Path, defaults: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        TextToImage('sd', tmp_path, **defaults)
    with pytest.raises(ConfigError, match='weights'):
        TextToImage('sd', None)


@pytest.mark.parametrize('offload', ['model', 'group', 'sequential'])
def test_offloading_without_a_gpu_is_told_and_changes_nothing(
    twin: Callable[[str], Path], offload: str
) -> None:
    folder = twin('stable_diffusion')
    expert = TextToImage('sd', folder, device='cpu', offload=offload, **SIZE)
    result = run(expert, request('gen'))
    assert result.provenance.parameters['offload'] == 'resident'
    assert any(f'Offloading ({offload}) needs a GPU' in n for n in result.provenance.notices)
    plain = TextToImage('sd', folder, device='cpu', **SIZE)
    assert np.array_equal(pixels(result), pixels(run(plain, request('gen'))))


def test_the_folder_says_which_pipeline_where_that_is_wanted(twin: Callable[[str], Path]) -> None:
    expert = TextToImage('any', twin('sdxl'), pipeline='DiffusionPipeline', **SIZE)
    source = run(expert, request('gen')).provenance
    assert source.parameters['pipeline'] == 'StableDiffusionXLPipeline'


def test_jobs_and_offloading_stand_each_other(twin: Callable[[str], Path]) -> None:
    """In groups, the one way of offloading that a CPU can do; GPUs were not at hand."""
    import torch

    expert = TextToImage('sd', twin('stable_diffusion'), **SIZE)
    plain = pixels(run(expert, request('gen')))
    pipeline = expert._loaded.pipeline  # type: ignore[union-attr]
    pipeline.enable_group_offload(onload_device=torch.device('cpu'), offload_type='leaf_level')
    heard = Heard(stop_after=1)
    with pytest.raises(Cancelled):
        expert.run(request('gen'), heard, heard.cancel)
    assert heard.steps == 1
    assert np.array_equal(pixels(run(expert, request('gen'))), plain)
    expert.unload()
    assert np.array_equal(pixels(run(expert, request('gen'))), plain)
