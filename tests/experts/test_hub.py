"""Downloads: from a real server over HTTP, by the command a person types."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.experts.hub_server import COMMIT, Hub, served
from unifiedmllm_ros.cli import main

pytest.importorskip('huggingface_hub', reason='needs the extra [experts]')

LARGE = bytes(range(256)) * 4 * 24 * 1024  # 24 MiB: the client writes 10 MiB at a time


def safetensors(size: int = 2000) -> bytes:
    header = json.dumps({'w': {'dtype': 'U8', 'shape': [size], 'data_offsets': [0, size]}}).encode()
    return struct.pack('<Q', len(header)) + header + bytes(size)


def files() -> dict[str, bytes]:
    return {
        'model_index.json': json.dumps(
            {'_class_name': 'StableDiffusionPipeline', 'unet': ['diffusers', 'UNet']}
        ).encode(),
        'unet/config.json': b'{}',
        'unet/model.safetensors': safetensors(),
        'unet/model.bin': b'a pickle that nobody wants' * 100,
        'README.md': b'# Model',
    }


CONFIG = """
experts:
  sd:
    implementation: unifiedmllm_ros.experts.grabcut:GrabCut
    kind: segmentation
    weights: weights/sd
    repo: someone/model
    files: [model_index.json, unet/*.json, unet/*.safetensors]
    holds: [StableDiffusionPipeline]
    licence: CC-BY-NC-4.0
    non_commercial: true
  large:
    implementation: unifiedmllm_ros.experts.grabcut:GrabCut
    kind: segmentation
    weights: weights/large/big.pt
    repo: someone/model
    files: [big.pt]
    licence: MIT
  two:
    implementation: unifiedmllm_ros.experts.grabcut:GrabCut
    kind: segmentation
    weights: weights/two
    repo: someone/model
    files: [README.md]
    also:
      ../further: {repo: someone/model, revision: v2, files: [unet/*]}
  local:
    implementation: unifiedmllm_ros.experts.grabcut:GrabCut
    kind: segmentation
  gone:
    implementation: unifiedmllm_ros.experts.grabcut:GrabCut
    kind: segmentation
    weights: weights/gone
    repo: someone/else
tasks: {}
"""


@pytest.fixture
def hub() -> Hub:
    return Hub(files())


def start(config: Path, endpoint: str, *words: str) -> subprocess.Popen[str]:
    surroundings = {key: value for key, value in os.environ.items() if not key.startswith('HF_')}
    surroundings |= {'HF_ENDPOINT': endpoint, 'HF_HUB_DISABLE_TELEMETRY': '1'}
    surroundings['HF_HOME'] = str(config.parent / 'hf')
    command = 'import sys; from unifiedmllm_ros.cli import main; sys.exit(main(sys.argv[1:]))'
    return subprocess.Popen(
        [sys.executable, '-c', command, 'experts', '--config', str(config), *words],
        env=surroundings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def download(monkeypatch: pytest.MonkeyPatch, config: Path, endpoint: str, name: str) -> int:
    """The same in this process, which has the libraries in memory already."""
    monkeypatch.setenv('HF_ENDPOINT', endpoint)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', False)
    return main(['experts', '--config', str(config), 'download', name])


def done(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / 'experts.yaml'
    path.write_text(CONFIG, encoding='utf-8')
    return path


def fetched(hub: Hub) -> int:
    return len([one for one in hub.asked if one[0] == 'GET' and '/resolve/' in one[1]])


def test_weights_are_fetched_with_their_licence_shown_and_checked(
    config: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(hub) as endpoint:
        assert download(monkeypatch, config, endpoint, 'sd') == 0
        out = capsys.readouterr().out
        assert 'licence of the weights: CC-BY-NC-4.0' in out
        assert 'NON-COMMERCIAL: this licence forbids commercial use' in out
        assert '3/3 unet/model.safetensors' in out
        folder = config.parent / 'weights' / 'sd'
        assert 'unet/model.bin' not in [str(p.relative_to(folder)) for p in folder.rglob('*')]
        assert (folder / 'unet' / 'model.safetensors').read_bytes() == safetensors()
        record = json.loads((folder / '.unifiedmllm.json').read_text())
        assert (record['repo'], record['commit']) == ('someone/model', COMMIT)
        assert len(record['files']) == 3
        assert fetched(hub) == 3
        # What is there already is not fetched again; what was damaged is.
        assert download(monkeypatch, config, endpoint, 'sd') == 0
        assert fetched(hub) == 3
        (folder / 'unet' / 'model.safetensors').write_bytes(bytes(len(safetensors())))
        assert download(monkeypatch, config, endpoint, 'sd') == 0
        assert fetched(hub) == 4


def test_an_interrupted_download_goes_on_where_it_was(config: Path, hub: Hub) -> None:
    hub.files['big.pt'] = LARGE
    hub.hold = 'big.pt'
    with served(hub) as endpoint:
        process = start(config, endpoint, 'download', 'large')
        folder = config.parent / 'weights' / 'large'
        assert hub.half_sent.wait(60)
        wait_for_part(folder, 10 * 2**20)
        process.kill()
        done(process)
        hub.go.set()
        assert not (folder / 'big.pt').exists()
        status, _, err = done(start(config, endpoint, 'download', 'large'))
        assert status == 0, err
        assert (folder / 'big.pt').read_bytes() == LARGE
    ranges = [asked[2] for asked in hub.asked if asked[0] == 'GET' and asked[2]]
    assert ranges == [f'bytes={10 * 2**20}-']


@pytest.mark.parametrize(
    ('variant', 'expected'),
    [
        ('fp16', {'unet/m.fp16.safetensors', 'vae/m.fp16.bin', 'safety/m.bin'}),
        ('', {'unet/m.safetensors', 'vae/m.bin', 'safety/m.bin'}),
    ],
)
def test_of_several_forms_of_the_same_weights_one_is_fetched(
    variant: str, expected: set[str]
) -> None:
    from unifiedmllm_ros.experts.hub import _without_doubles

    names = {'model_index.json', 'unet/config.json', 'tokenizer/merges.txt', 'LICENSE', 'x.png'}
    names |= {f'unet/m{form}' for form in ('.fp16.safetensors', '.safetensors', '.fp16.bin')}
    names |= {'vae/m.fp16.bin', 'vae/m.bin', 'safety/m.bin', 'v1-5-pruned.safetensors'}
    chosen = _without_doubles(names, variant)
    assert {name for name in chosen if '/m' in name and 'merges' not in name} == expected
    assert {'model_index.json', 'unet/config.json', 'tokenizer/merges.txt', 'LICENSE'} <= chosen
    assert not {'v1-5-pruned.safetensors', 'x.png'} & chosen


def wait_for_part(folder: Path, size: int) -> None:
    """Until the client has that much on the disk."""
    import threading

    pause = threading.Event()
    for _ in range(1200):
        if any(part.stat().st_size >= size for part in folder.rglob('*.incomplete')):
            return
        pause.wait(0.05)
    raise AssertionError('nothing was written')


def test_further_repositories_are_fetched_to_their_folders(
    config: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(hub) as endpoint:
        assert download(monkeypatch, config, endpoint, 'two') == 0
    folder = config.parent / 'weights'
    assert (folder / 'two' / 'README.md').read_bytes() == b'# Model'
    assert (folder / 'further' / 'unet' / 'model.safetensors').read_bytes() == safetensors()
    (folder / 'further' / 'unet' / 'config.json').unlink()
    capsys.readouterr()
    assert main(['experts', '--config', str(config), 'check', 'two', '--files-only']) == 1
    assert 'finds no unet/config.json' in capsys.readouterr().out


def test_a_file_that_is_not_what_was_announced_is_refused(
    config: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.offered = {'unet/model.safetensors': safetensors(2000)[:-1] + b'!'}
    with served(hub) as endpoint:
        assert download(monkeypatch, config, endpoint, 'sd') == 1
    assert 'not the file that someone/model announced' in capsys.readouterr().err


def test_a_file_outside_the_folder_is_refused(
    config: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.offered = {'../../evil.json': b'{}'}
    with served(hub) as endpoint:
        assert download(monkeypatch, config, endpoint, 'sd') == 1
    assert 'lies outside its folder' in capsys.readouterr().err
    assert not list(config.parent.rglob('evil*'))


@pytest.mark.parametrize(
    ('name', 'named'),
    [
        ('gone', 'someone/else cannot be fetched (RepositoryNotFoundError'),
        ('local', 'has no weights'),
        ('nobody', "no expert 'nobody'"),
    ],
)
def test_what_cannot_be_fetched_says_why(
    config: Path,
    hub: Hub,
    name: str,
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with served(hub) as endpoint:
        assert download(monkeypatch, config, endpoint, name) == 1
    assert named in capsys.readouterr().err


def test_without_a_network_nothing_old_is_taken_for_whole(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = config.parent / 'weights' / 'sd'
    folder.mkdir(parents=True)
    (folder / 'model_index.json').write_text('{}')
    assert download(monkeypatch, config, 'http://127.0.0.1:9', 'sd') == 1
    err = capsys.readouterr().err
    assert 'someone/model cannot be fetched' in err
    assert 'run it again, it goes on' in err
