"""Auffusion behind the expert protocol, with tiny models in both published layouts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='Auffusion needs the extra [experts]')
diffusers = pytest.importorskip('diffusers', reason='Auffusion needs the extra [experts]')

from tests.experts.auffusion.tiny import MELS, save_plain, save_with_encoders  # noqa: E402
from unifiedmllm_ros.cancellation import never  # noqa: E402
from unifiedmllm_ros.errors import (  # noqa: E402
    Cancelled,
    ConfigError,
    ModelError,
    ModelFileError,
    RequestError,
)
from unifiedmllm_ros.experts.auffusion.expert import Auffusion  # noqa: E402
from unifiedmllm_ros.experts.auffusion.mel import from_image  # noqa: E402
from unifiedmllm_ros.experts.base import (  # noqa: E402
    AudioResult,
    Expert,
    Progress,
    Request,
    unheard,
)

FEW = {'steps': 3, 'seconds': 0.64}
LAYOUTS = ['plain', 'encoders']


@pytest.fixture(scope='module')
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp('auffusion')
    return {
        'plain': save_plain(root / 'plain'),
        'encoders': save_with_encoders(root / 'encoders'),
    }


@pytest.fixture(scope='module')
def experts(folders: dict[str, Path]) -> dict[str, Auffusion]:
    return {kind: Auffusion(kind, folder, device='cpu') for kind, folder in folders.items()}


def asked(prompt: str = 'rain on a tin roof', seed: int = 3, **parameters: Any) -> Request:
    return Request('audgen', prompt, seed=seed, parameters={**FEW, **parameters})


def sound(expert: Auffusion, request: Request) -> AudioResult:
    return expert.run(request, unheard, never)


@pytest.mark.parametrize('kind', LAYOUTS)
def test_a_prompt_becomes_a_sound(experts: dict[str, Auffusion], kind: str) -> None:
    heard: list[Progress] = []
    expert = experts[kind]
    assert isinstance(expert, Expert)
    result = expert.run(asked(), heard.append, never)
    assert (result.rate, result.samples.shape, result.samples.dtype) == (16000, (10240,), 'f4')
    assert 0 < np.abs(result.samples).max() <= 1
    shares = [progress.fraction for progress in heard]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert {'denoise', 'decode', 'vocoder'} <= {progress.phase for progress in heard}
    (picture,) = [one.preview for one in heard if one.preview is not None]
    assert picture.shape == (MELS, 64, 3)
    source = result.provenance
    assert (source.seed, source.device, source.dtype) == (3, 'cpu', 'float32')
    assert (source.parameters['steps'], source.parameters['seconds']) == (3, 0.64)
    assert source.weights.startswith(f'{kind}/unet/')
    assert any('not for commercial use' in notice for notice in source.notices)


@pytest.mark.parametrize('kind', LAYOUTS)
def test_a_sound_follows_from_seed_and_prompt(experts: dict[str, Auffusion], kind: str) -> None:
    expert = experts[kind]
    torch.manual_seed(1)
    first = sound(expert, asked()).samples
    torch.manual_seed(2)
    np.testing.assert_array_equal(first, sound(expert, asked()).samples)
    assert (first != sound(expert, asked(seed=4)).samples).any()
    assert (first != sound(expert, asked('a dog barks')).samples).any()
    assert (first != sound(expert, asked(negative_prompt='noise')).samples).any()


def test_the_plain_layout_is_that_of_stable_diffusion(
    folders: dict[str, Path], experts: dict[str, Auffusion]
) -> None:
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        folders['plain'], local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    (image,) = pipeline(
        'rain on a tin roof',
        num_inference_steps=3,
        height=MELS,
        width=64,
        output_type='pt',
        generator=torch.Generator().manual_seed(3),
    ).images
    with torch.no_grad():
        wave = experts['plain']._vocoder(from_image(image)[None])[0, 0]
    np.testing.assert_array_equal(sound(experts['plain'], asked()).samples, wave.numpy())


@pytest.mark.parametrize('seconds', [0.01, 0.08, 0.641, 1.0])
def test_a_sound_has_exactly_its_length(experts: dict[str, Auffusion], seconds: float) -> None:
    result = sound(experts['plain'], asked(seconds=seconds, steps=1))
    assert len(result.samples) == round(seconds * 16000)
    assert result.provenance.parameters['seconds'] == seconds


@pytest.mark.parametrize('kind', LAYOUTS)
def test_a_cancel_stops_within_one_step(experts: dict[str, Auffusion], kind: str) -> None:
    expert, heard = experts[kind], []
    wanted = sound(expert, asked()).samples
    calls: list[int] = []
    hook = expert._loaded.pipeline.unet.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(Cancelled, match=kind):
        expert.run(asked(steps=20), heard.append, lambda: len(calls) >= 2)
    hook.remove()
    assert len(calls) == 2
    np.testing.assert_array_equal(wanted, sound(expert, asked()).samples)


@pytest.mark.parametrize('kind', LAYOUTS)
def test_a_cancel_is_heard_before_anything_is_read(
    experts: dict[str, Auffusion], kind: str
) -> None:
    with pytest.raises(Cancelled):
        experts[kind].run(asked(), unheard, lambda: True)


@pytest.mark.parametrize('kind', LAYOUTS)
def test_a_prompt_of_5000_characters_is_cut_and_says_so(
    experts: dict[str, Auffusion], kind: str
) -> None:
    result = sound(experts[kind], asked('x' * 5000, steps=1))
    cut = [notice for notice in result.provenance.notices if 'left out' in notice]
    assert len(cut) == (1 if kind == 'plain' else 2)
    assert '4925 tokens' in cut[0]


def test_parameters_out_of_range_and_unknown_ones_are_refused(
    experts: dict[str, Auffusion], folders: dict[str, Path]
) -> None:
    for wrong in ({'steps': 0}, {'seconds': 1000}, {'tempo': 3}, {'seconds': float('nan')}):
        with pytest.raises(RequestError, match=next(iter(wrong))):
            sound(experts['plain'], asked(**wrong))
    with pytest.raises(ConfigError, match='seconds'):
        Auffusion('auffusion', folders['plain'], seconds='long')
    with pytest.raises(ConfigError, match='needs weights'):
        Auffusion('auffusion', None)


def test_it_can_be_unloaded_and_come_back(folders: dict[str, Path]) -> None:
    expert = Auffusion('auffusion', folders['encoders'], device='cpu')
    first = sound(expert, asked()).samples
    expert.unload()
    assert expert._vocoder is None
    assert expert._conditions is None
    np.testing.assert_array_equal(first, sound(expert, asked()).samples)


@pytest.mark.parametrize(
    ('kind', 'missing'),
    [
        ('plain', 'model_index.json'),
        ('plain', 'unet/config.json'),
        ('plain', 'unet/diffusion_pytorch_model.safetensors'),
        ('plain', 'tokenizer/tokenizer.json'),
        ('plain', 'vocoder/config.json'),
        ('plain', 'vocoder/vocoder.pt'),
        ('encoders', 'vae/config.json'),
        ('encoders', 'scheduler/scheduler_config.json'),
        ('encoders', 'text_encoder_1/config.json'),
        ('encoders', 'text_encoder_1/model.safetensors'),
        ('encoders', 'text_encoder_0/tokenizer.json'),
        ('encoders', 'condition_adapter_0/condition_adapter.pt'),
    ],
)
def test_a_missing_file_is_an_error_that_names_its_place(
    folders: dict[str, Path], tmp_path: Path, kind: str, missing: str
) -> None:
    copy = Path(shutil.copytree(folders[kind], tmp_path / 'copy'))
    (copy / missing).unlink()
    with pytest.raises(ModelFileError, match='copy') as failure:
        Auffusion('auffusion', copy, device='cpu').load()
    assert missing.split('/')[0] in str(failure.value)


def changed(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text('utf-8'))
    for one in content if isinstance(content, list) else [content]:
        one.update(values)
    path.write_text(json.dumps(content), 'utf-8')


@pytest.mark.parametrize(
    ('kind', 'file', 'values', 'message'),
    [
        ('plain', 'model_index.json', {'_class_name': 'FluxPipeline'}, 'FluxPipeline'),
        ('plain', 'unet/config.json', {'in_channels': 9}, '9 channels'),
        ('plain', 'vocoder/config.json', {'upsample_rates': [5, 4, 2, 2, 1]}, '80, not 160'),
        ('plain', 'vocoder/config.json', {'num_mels': 80}, 'size mismatch'),
        ('plain', 'vocoder/config.json', {'resblock': '3'}, 'resblock'),
        ('encoders', 'condition_config.json', {'cross_attention_dim': 48}, '48 numbers'),
        ('encoders', 'condition_config.json', {'condition_dim': 7}, 'condition_adapter'),
        ('encoders', 'text_encoder_0/config.json', {'model_type': 'gpt2'}, "'gpt2'"),
        ('encoders', 'scheduler/scheduler_config.json', {'_class_name': 'Path'}, 'scheduler'),
    ],
)
def test_another_model_is_refused(
    folders: dict[str, Path],
    tmp_path: Path,
    kind: str,
    file: str,
    values: dict[str, Any],
    message: str,
) -> None:
    copy = Path(shutil.copytree(folders[kind], tmp_path / 'copy'))
    changed(copy / file, **values)
    with pytest.raises(ModelFileError, match=message):
        Auffusion('auffusion', copy, device='cpu').load()


@pytest.mark.parametrize('content', ['[]', '{}', '[{"condition_dim": 4}]', 'x'])
def test_a_list_of_encoders_that_is_none_is_refused(
    folders: dict[str, Path], tmp_path: Path, content: str
) -> None:
    copy = Path(shutil.copytree(folders['encoders'], tmp_path / 'copy'))
    (copy / 'condition_config.json').write_text(content, 'utf-8')
    with pytest.raises(ModelFileError, match=r'condition_config\.json'):
        Auffusion('auffusion', copy, device='cpu').load()


def test_pickled_code_in_the_vocoder_is_not_run(folders: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folders['plain'], tmp_path / 'copy'))
    torch.save({'generator': {'conv_pre.bias': Path('x')}}, copy / 'vocoder' / 'vocoder.pt')
    with pytest.raises(ModelFileError, match=r'vocoder\.pt'):
        Auffusion('auffusion', copy, device='cpu').load()


def test_a_vocoder_that_gives_no_numbers_is_an_error(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(folders['plain'], tmp_path / 'copy'))
    path = copy / 'vocoder' / 'vocoder.pt'
    content = torch.load(path, weights_only=True)
    content['generator']['conv_pre.bias'].fill_(float('nan'))
    torch.save(content, path)
    with pytest.raises(ModelError, match='not finite'):
        sound(Auffusion('auffusion', copy, device='cpu'), asked())
