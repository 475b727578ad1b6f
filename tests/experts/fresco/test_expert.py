"""FRESCO behind the expert protocol, with tiny models in the published layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='FRESCO needs the extra [experts]')
pytest.importorskip('diffusers', reason='FRESCO needs the extra [experts]')

from tests.experts.fresco.tiny import save_fresco  # noqa: E402
from unifiedmllm_ros.cancellation import never  # noqa: E402
from unifiedmllm_ros.errors import (  # noqa: E402
    Cancelled,
    ConfigError,
    MissingImageError,
    ModelFileError,
    RequestError,
    VideoError,
)
from unifiedmllm_ros.experts.base import (  # noqa: E402
    Expert,
    Progress,
    Request,
    VideoResult,
    unheard,
)
from unifiedmllm_ros.experts.fresco.batches import batched, seen_size  # noqa: E402
from unifiedmllm_ros.experts.fresco.expert import Fresco  # noqa: E402

FEW = {
    'steps': 3,
    'strength': 0.7,
    'short_side': 128,
    'iterations': 1,
    'optimised_steps': 1,
    'key_interval_min': 2,
    'key_interval_max': 2,
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_fresco(tmp_path_factory.mktemp('fresco') / 'sd')


@pytest.fixture(scope='module')
def expert(folder: Path) -> Fresco:
    return Fresco('fresco', folder, device='cpu')


def video(count: int, height: int = 60, width: int = 80) -> list[np.ndarray]:
    """A textured square that moves to the right over a textured ground."""
    random = np.random.default_rng(5)
    ground = random.integers(0, 255, (height // 4, width // 4, 3), dtype=np.uint8)
    ground = ground.repeat(4, 0).repeat(4, 1)
    square = random.integers(0, 255, (6, 6, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    frames = []
    for index in range(count):
        frame = ground.copy()
        frame[20:44, 10 + 4 * index : 34 + 4 * index] = square
        frames.append(frame)
    return frames


def asked(
    count: int = 3, prompt: str = 'make it snow', seed: int = 3, **parameters: Any
) -> Request:
    first, *rest = video(count)
    return Request(
        'videdit',
        prompt,
        first,
        seed=seed,
        parameters={**FEW, **parameters},
        frames=rest,
        rate=12.0,
    )


def edit(expert: Fresco, request: Request) -> VideoResult:
    return expert.run(request, unheard, never)


@pytest.fixture(scope='module')
def plain(expert: Fresco) -> VideoResult:
    """The edit of `asked()`."""
    torch.manual_seed(1)
    return edit(expert, asked())


def same(one: VideoResult, two: VideoResult) -> bool:
    return all(map(np.array_equal, one.frames, two.frames))


def test_a_video_is_edited(expert: Fresco) -> None:
    heard: list[Progress] = []
    assert isinstance(expert, Expert)
    result = expert.run(asked(4), heard.append, never)
    assert [frame.shape for frame in result.frames] == [(60, 80, 3)] * 4
    assert {frame.dtype for frame in result.frames} == {np.dtype(np.uint8)}
    assert result.rate == 12.0
    shares = [progress.fraction for progress in heard]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert {'denoise', 'decode', 'interpolate'} <= {progress.phase for progress in heard}
    source = result.provenance
    assert (source.seed, source.device, source.dtype) == (3, 'cpu', 'float32')
    told = source.parameters
    assert told['key_frames'] == [0, 2]
    assert (told['width'], told['height'], told['flow']) == (192, 128, 'dis')
    assert told['optimisations'] == 4  # one step, four levels
    assert any('not for commercial use' in notice for notice in source.notices)
    assert any('2 of 4 frames were carried over' in notice for notice in source.notices)


def test_an_edit_follows_from_seed_and_prompt(expert: Fresco, plain: VideoResult) -> None:
    torch.manual_seed(2)
    assert same(plain, edit(expert, asked()))


@pytest.mark.parametrize(
    'change',
    [
        {'seed': 4},
        {'prompt': 'at night'},
        {'negative_prompt': 'noise'},
        {'optimised_steps': 0},
        {'control_scale': 0.0},
        {'strength': 0.4},
        {'scheduler': 'EulerDiscreteScheduler'},
        {'scheduler': 'PNDMScheduler'},
    ],
)
def test_everything_asked_takes_effect(
    expert: Fresco, plain: VideoResult, change: dict[str, Any]
) -> None:
    assert not same(plain, edit(expert, asked(**change)))


def test_frames_of_a_batch_know_of_each_other(expert: Fresco) -> None:
    alone = edit(expert, asked(1))
    together = edit(expert, asked(3, key_interval_min=1, key_interval_max=1))
    assert len(together.provenance.parameters['key_frames']) == 3
    assert (alone.frames[0] != together.frames[0]).any()


def test_key_frames_beyond_one_batch(expert: Fresco) -> None:
    request = asked(5, key_interval_min=1, key_interval_max=1, batch=3, optimised_steps=0)
    heard: list[float] = []
    result = expert.run(request, lambda one: heard.append(one.fraction), never)
    assert len(result.frames) == 5
    assert heard == sorted(heard)


def test_a_video_of_one_frame(expert: Fresco) -> None:
    (frame,) = edit(expert, asked(1)).frames
    assert frame.shape == (60, 80, 3)


def test_a_video_of_no_frames_or_of_several_sizes_is_refused(expert: Fresco) -> None:
    with pytest.raises(MissingImageError, match='fresco'):
        edit(expert, Request('videdit', 'make it snow'))
    small = np.zeros((30, 80, 3), np.uint8)
    with pytest.raises(VideoError, match='frame 1'):
        edit(expert, Request('videdit', 'make it snow', video(1)[0], frames=(small,)))


def test_a_cancel_stops_within_one_step_and_leaves_the_networks_as_they_were(
    expert: Fresco, plain: VideoResult
) -> None:
    unet = expert._loaded.pipeline.unet
    processors = {name: type(one) for name, one in unet.attn_processors.items()}
    calls: list[int] = []
    hook = unet.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(Cancelled, match='fresco'):
        expert.run(asked(steps=20), unheard, lambda: len(calls) >= 2)
    hook.remove()
    assert len(calls) == 2
    assert {name: type(one) for name, one in unet.attn_processors.items()} == processors
    assert not any(block._forward_pre_hooks for block in unet.up_blocks)
    assert same(plain, edit(expert, asked()))


def test_a_cancel_stops_between_iterations_of_an_optimisation(
    expert: Fresco, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unifiedmllm_ros.experts.fresco import features

    done: list[int] = []
    whole = features._descend
    monkeypatch.setattr(features, '_descend', lambda *a: (done.append(1), whole(*a))[1])
    with pytest.raises(Cancelled):
        expert.run(asked(iterations=50), unheard, lambda: len(done) >= 3)
    assert len(done) == 3


def test_a_prompt_of_5000_characters_is_cut_and_says_so(expert: Fresco) -> None:
    result = edit(expert, asked(1, 'x' * 5000, optimised_steps=0))
    assert any('left out' in notice for notice in result.provenance.notices)


@pytest.mark.parametrize(
    'wrong',
    [
        {'strength': 0.0},
        {'batch': 2},
        {'key_interval_min': 5},
        {'flow': 'other'},
        {'device': 'cuda'},
        {'scheduler': 'NoScheduler'},
    ],
)
def test_wrong_parameters_are_refused(expert: Fresco, wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(wrong))):
        edit(expert, asked(1, **wrong))


def test_wrong_options_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match='needs weights'):
        Fresco('fresco', None)
    with pytest.raises(ConfigError, match='controlnet'):
        Fresco('fresco', folder, controlnet='')
    with pytest.raises(ConfigError, match='batch'):
        Fresco('fresco', folder, batch='many')


@pytest.mark.parametrize(
    'missing',
    [
        'model_index.json',
        'unet/config.json',
        'vae/diffusion_pytorch_model.safetensors',
        'controlnet/config.json',
        'controlnet/diffusion_pytorch_model.safetensors',
    ],
)
def test_a_missing_file_is_an_error_that_names_its_place(
    folder: Path, tmp_path: Path, missing: str
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / 'copy'))
    (copy / missing).unlink()
    expert = Fresco('fresco', copy, device='cpu')
    with pytest.raises(ModelFileError, match='copy') as failure:
        expert.load()
    assert missing.split('/')[0] in str(failure.value)
    assert expert._loaded is None


def test_a_controlnet_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    from tests.experts.fresco.tiny import _unet, controlnet

    controlnet(_unet((16, 16, 16, 32))).save_pretrained(tmp_path / 'other')
    expert = Fresco('fresco', folder, controlnet=str(tmp_path / 'other'), device='cpu')
    with pytest.raises(ModelFileError, match='block_out_channels'):
        expert.load()
    copy = Path(shutil.copytree(folder, tmp_path / 'copy'))
    config = json.loads((copy / 'unet' / 'config.json').read_text('utf-8'))
    (copy / 'controlnet' / 'config.json').write_text(json.dumps(config), 'utf-8')
    with pytest.raises(ModelFileError, match='controlnet'):
        Fresco('fresco', copy, device='cpu').load()


def test_it_can_be_unloaded_and_come_back(folder: Path) -> None:
    expert = Fresco('fresco', folder, device='cpu')
    expert.load()
    expert.unload()
    assert (expert._loaded, expert._controlnet, expert._flow) == (None, None, None)
    assert edit(expert, asked(1, optimised_steps=0)).frames


def test_batches_begin_with_what_was_edited_before() -> None:
    first, second, third = batched(range(0, 60, 10), 4)[:1] + batched(tuple(range(8)), 4)[1:3]
    assert (first.keys, first.new) == ((0, 10, 20, 30), 4)
    assert (second.keys, second.new) == ((0, 3, 4, 5), 2)
    assert (third.keys, third.new) == ((0, 5, 6, 7), 2)
    assert [one.keys for one in batched((0, 4), 8)] == [(0, 4)]


def test_frames_are_seen_in_sizes_that_the_network_takes() -> None:
    assert seen_size(640, 480, 512, 64) == (704, 512)
    assert seen_size(480, 640, 512, 64) == (512, 704)
    assert seen_size(512, 512, 512, 64) == (512, 512)
    assert seen_size(2, 2000, 128, 64) == (128, 128000)


def test_flow_and_background_may_come_from_networks(
    folder: Path, tmp_path: Path, plain: VideoResult
) -> None:
    pytest.importorskip('onnx', reason='files of networks need the extra [export]')
    from tests.experts.fresco.test_networks import flow_file, sliced, write

    nodes = sliced('image', 'background', 1)
    write(tmp_path / 'background.onnx', {'image': 3}, 'background', 1, nodes)
    flow_file(tmp_path / 'flow.onnx')
    options = {'flow': tmp_path / 'flow.onnx', 'background': tmp_path / 'background.onnx'}
    for name, path in options.items():
        result = edit(Fresco('fresco', folder, device='cpu', **{name: str(path)}), asked())
        assert result.provenance.parameters[name] == str(path)
        assert not same(plain, result)
    with pytest.raises(ModelFileError, match=r'none\.onnx'):
        Fresco('fresco', folder, flow='none.onnx', device='cpu').load()
