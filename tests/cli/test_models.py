"""`unifiedmllm models download` and `use`, against a hub of this machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip('transformers', reason='needs the extra vlm')

from tests.runtime.local.checkpoints import owlv2
from unifiedmllm_ros.cli import main
from unifiedmllm_ros.runtime.loading import load_model

SHA = 'a' * 40


class Hub(ThreadingHTTPServer):
    """What huggingface_hub asks for: one repository, whose large file breaks off once if wanted."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(('127.0.0.1', 0), Handler)
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.files |= {'pytorch_model.bin': b'pickle', 'run.py': b'print(1)'}
        # huggingface_hub writes pieces of 10 MB: a file that can be cut off has more.
        self.files['large.safetensors'] = bytes(24_000_000)
        self.breaks = False
        self.ranges: list[str] = []
        self.served: list[str] = []

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.server_address[1]}'


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = 'HTTP/1.1'

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path.partition('?')[0].strip('/').split('/')
        if parts[:5] == ['api', 'models', 'lab', 'eyes', 'tree']:
            self.reply(200, json.dumps(self.tree()).encode(), {})
        elif parts[:4] == ['api', 'models', 'lab', 'eyes']:
            self.reply(200, json.dumps(self.info()).encode(), {})
        elif parts[:3] == ['lab', 'eyes', 'resolve'] and parts[-1] in self.server.files:
            self.file(parts[-1])
        else:
            self.reply(404, b'{}', {'X-Error-Code': 'RepoNotFound'})

    def info(self) -> dict:
        files = self.server.files
        siblings = [{'rfilename': name, 'size': len(data)} for name, data in files.items()]
        card = {'license': 'apache-2.0'}
        return {'id': 'lab/eyes', 'sha': SHA, 'siblings': siblings, 'cardData': card}

    def tree(self) -> list[dict]:
        return [
            {'type': 'file', 'path': name, 'size': len(data), 'oid': 'b' * 40}
            for name, data in self.server.files.items()
        ]

    def file(self, name: str) -> None:
        data = self.server.files[name]
        headers = {'ETag': f'"{hashlib.sha256(data).hexdigest()}"', 'X-Repo-Commit': SHA}
        start = 0
        if asked := self.headers.get('Range'):
            self.server.ranges.append(asked)
            start = int(asked.removeprefix('bytes=').split('-')[0])
            headers['Content-Range'] = f'bytes {start}-{len(data) - 1}/{len(data)}'
        if self.command == 'GET':
            self.server.served.append(name)
        breaks = self.server.breaks and self.command == 'GET' and name.startswith('large')
        self.reply(206 if asked else 200, data[start:], headers, breaks)

    def reply(self, status: int, body: bytes, headers: dict, breaks: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if self.command == 'HEAD':
            return
        self.wfile.write(body[: len(body) // 2] if breaks else body)
        if breaks:
            self.server.breaks = False
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path):
    with Hub(owlv2(tmp_path / 'lab')) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def command(hub, tmp_path, *words):
    """In a process of its own: huggingface_hub reads its settings when it is imported."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith('HF_')},
        'HF_ENDPOINT': hub.url,
        'HF_HOME': str(tmp_path / 'cache'),
        'HF_HUB_CACHE': str(tmp_path / 'cache' / 'hub'),
        'HF_HUB_DISABLE_XET': '1',
        'HF_HUB_DISABLE_TELEMETRY': '1',
        'XDG_CONFIG_HOME': str(tmp_path / 'config'),
    }
    code = 'import sys; from unifiedmllm_ros.cli import main; sys.exit(main())'
    return subprocess.run(
        [sys.executable, '-c', code, 'models', *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_download_goes_on_and_use_finds_it(hub, tmp_path):
    shown = command(hub, tmp_path, 'download', 'lab/eyes', '--dry-run')
    assert 'licence: apache-2.0' in shown.stdout, shown.stderr
    assert hub.served == []

    hub.breaks = True
    whole = command(hub, tmp_path, 'download', 'lab/eyes')
    assert whole.returncode == 0, whole.stderr
    assert 'licence: apache-2.0' in whole.stdout
    assert 'complete' in whole.stdout
    # It was cut off once, and went on from there.
    assert not hub.breaks
    assert [asked for asked in hub.ranges if not asked.startswith('bytes=0-')]
    assert not {'pytorch_model.bin', 'run.py'} & set(hub.served)

    used = command(hub, tmp_path, 'use', 'lab/eyes', '--dtype', 'float32')
    assert 'model:=eyes.yaml' in used.stdout, used.stderr
    again = command(hub, tmp_path, 'use', 'lab/eyes')
    assert '--force' in again.stderr


def test_what_the_hub_does_not_have(hub, tmp_path):
    failed = command(hub, tmp_path, 'download', 'lab/nothing')
    assert failed.returncode == 1
    assert 'there is no such model' in failed.stderr
    failed = command(hub, tmp_path, 'download', 'no name')
    assert 'owner/name' in failed.stderr


def test_use_of_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path / 'config'))
    folder = owlv2(tmp_path / 'mine')
    assert main(['models', 'use', str(folder), '--name', 'eyes']) == 0
    printed = capsys.readouterr().out
    assert '--model eyes.yaml' in printed
    assert load_model('eyes.yaml').info.backend.endswith('owlv2')
    assert main(['models', 'use', str(folder), '--name', '../eyes']) == 1
    assert main(['models', 'use', str(folder), '--name', 'b', '--dtype', 'int3']) == 1
    assert 'dtype' in capsys.readouterr().err
    assert not (tmp_path / 'config/unifiedmllm/models/b.yaml').exists()


def test_list_names_what_can_be_downloaded(capsys):
    assert main(['models', 'list']) == 0
    printed = capsys.readouterr().out
    assert 'Qwen/Qwen3-VL-4B-Instruct' in printed
    assert 'Apache-2.0' in printed
