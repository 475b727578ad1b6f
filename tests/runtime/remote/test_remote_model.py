"""The remote model against a real server that does what servers do on bad days."""

from __future__ import annotations

import base64
import json
import logging
import shutil
import socket
import subprocess
import threading

import cv2
import numpy as np
import pytest

from tests.runtime.remote.server import Server, Waits, breaks_off, fails, says, sends
from unifiedmllm_ros.errors import Cancelled, ConfigError
from unifiedmllm_ros.model.adapters.base import FlawKind
from unifiedmllm_ros.model.protocol import Conversation, MultimodalModel, TextChunk
from unifiedmllm_ros.perception import Perceiver
from unifiedmllm_ros.representation import Box, Region
from unifiedmllm_ros.runtime.remote.client import Client
from unifiedmllm_ros.runtime.remote.description import RemoteDescription
from unifiedmllm_ros.runtime.remote.exchange import RemoteError
from unifiedmllm_ros.runtime.remote.model import RemoteModel

IMAGE = np.full((480, 640, 3), (200, 30, 30), np.uint8)
MUG = '[{"bbox_2d": [250, 250, 500, 500], "label": "mug"}]'
KEY = 'sk-very-secret-0123456789'


def remote(server: Server | str, **changes) -> RemoteModel:
    url = server if isinstance(server, str) else server.url
    settings = {'backoff': 0.001, 'read_timeout': 20.0, 'model': 'vlm', **changes}
    return RemoteModel(RemoteDescription(kind='remote', url=url, **settings))


def answer(model: RemoteModel, question: str = 'find the mug') -> str:
    chunks = model.stream(model.encode(IMAGE), Conversation(question))
    return ''.join(chunk.text for chunk in chunks)


def test_what_is_sent():
    with Server(says('Fine.')) as server:
        model = remote(server, max_side=320, extra={'seed': 7})
        model.max_tokens = 33
        assert answer(model) == 'Fine.'
        path, headers, body = server.requests[0]
    assert path == '/v1/chat/completions'
    assert 'Authorization' not in headers
    assert (body['model'], body['stream'], body['max_tokens']) == ('vlm', True, 33)
    assert body['seed'] == 7
    picture, text = body['messages'][1]['content']
    assert text['text'] == 'find the mug'
    head, data = picture['image_url']['url'].split(',')
    assert head == 'data:image/jpeg;base64'
    seen = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert seen.shape == (240, 320, 3)
    assert np.abs(seen.mean((0, 1)) - IMAGE[0, 0]).max() < 5


def test_a_family_is_translated_and_the_perceiver_cannot_tell():
    with Server(says('```json\n', MUG[:20], MUG[20:], '\n```')) as server:
        model = remote(server, representation='qwen3-vl')
        assert isinstance(model, MultimodalModel)
        perceiver = Perceiver(model)
        perceiver.set_image(IMAGE)
        got = perceiver.ask('segment the mug')
    assert got.response.calls[0].regions == (Region('mug', (Box(0.25, 0.25, 0.5, 0.5),)),)
    assert got.problems == ()
    assert got.model.backend == 'remote (qwen3-vl)'


def test_a_native_answer_streams_and_is_read_totally():
    native = ['A mug. <p>mug</p><box>[0.250, ', '0.250, 0.500, 0.500]</box>', '<box>[9]</box>']
    with Server(says(*native)) as server:
        perceiver = Perceiver(remote(server))
        perceiver.set_image(IMAGE)
        heard: list[str] = []
        got = perceiver.ask('find the mug', on_text=heard.append)
    assert heard == ['A mug. ']
    assert got.response.regions[0].boxes == (Box(0.25, 0.25, 0.5, 0.5),)
    assert len(got.problems) == 1


def test_pieces_arrive_while_the_server_still_writes():
    step = Waits('first')
    with Server(step) as server:
        model = remote(server)
        chunks = model.stream(model.encode(IMAGE), Conversation('find it'))
        assert next(chunks) == TextChunk('first')
        assert not step.left.is_set()
        chunks.close()
        assert step.left.wait(10)


def test_cancel_closes_the_connection():
    step, stop = Waits('first'), threading.Event()
    with Server(step) as server:
        model = remote(server)
        chunks = model.stream(model.encode(IMAGE), Conversation('find it'), stop.is_set)
        next(chunks)
        stop.set()
        with pytest.raises(Cancelled):
            next(chunks)
        assert step.left.wait(10)
    assert model.health.state != 'failing'


def test_too_many_requests_then_an_answer():
    with Server(fails(429, 'slow down', Retry_After='0'), fails(503), says('Fine.')) as server:
        model = remote(server)
        assert answer(model) == 'Fine.'
        assert len(server.requests) == 3
    assert (model.health.state, model.health.retries) == ('ok', 2)


def test_errors_of_the_server_end_after_the_retries():
    with Server(fails(500, 'CUDA error')) as server:
        model = remote(server, retries=2)
        with pytest.raises(RemoteError, match=r'500.*CUDA error'):
            answer(model)
        assert len(server.requests) == 3
    assert model.health.state == 'failing'
    assert 'CUDA error' in model.health.last_error


def test_pauses_double_and_are_jittered(monkeypatch):
    waited = []
    with Server(fails(500)) as server:
        description = RemoteDescription(
            kind='remote', url=server.url, model='vlm', retries=3, backoff=0.004
        )
        client = Client(description, jitter=lambda: 0.5)
        pause = client._pause
        monkeypatch.setattr(client, '_pause', lambda n, *rest: (waited.append(n), pause(n, *rest)))
        with pytest.raises(RemoteError):
            answer(RemoteModel(description, client))
    assert waited == [0, 1, 2]


@pytest.mark.parametrize(
    ('status', 'remedy'), [(400, 'suit'), (404, 'models check'), (413, 'max_side')]
)
def test_what_cannot_get_better_is_not_tried_again(status, remedy):
    with Server(fails(status)) as server:
        with pytest.raises(RemoteError, match=remedy):
            answer(remote(server))
        assert len(server.requests) == 1


def test_a_stream_that_breaks_off_is_not_repeated_once_text_has_gone_out():
    with Server(breaks_off('Half an'), says('Fine.')) as server:
        model = remote(server)
        heard = []
        with pytest.raises(RemoteError, match='middle'):
            heard.extend(model.stream(model.encode(IMAGE), Conversation('find it')))
        assert [chunk.text for chunk in heard] == ['Half an']
        assert len(server.requests) == 1


def test_a_stream_that_breaks_off_before_any_text_is_repeated():
    with Server(breaks_off(), says('Fine.')) as server:
        assert answer(remote(server)) == 'Fine.'


@pytest.mark.parametrize(
    'raw',
    [
        b'data: {"choices": [{"del\n\n',
        b'data: [1, 2]\n\n',
        b'{"no": "end',
        b'data: ' + b'[' * 99999,
    ],
)
def test_wrong_json(raw):
    with (
        Server(sends(raw)) as server,
        pytest.raises(RemoteError, match='no JSON object'),
    ):
        answer(remote(server))


@pytest.mark.parametrize('raw', [b'', b'data: {"choices": 5}\n\n', b': ping\n\n', b'<html>\n'])
def test_an_answer_without_an_end(raw):
    with Server(sends(raw)) as server, pytest.raises(RemoteError, match='middle'):
        answer(remote(server, retries=0))


def test_an_error_inside_the_stream():
    raw = b'data: {"error": {"message": "out of memory"}}\n\n'
    with Server(sends(raw)) as server, pytest.raises(RemoteError, match='out of memory'):
        answer(remote(server))


def test_a_server_that_does_not_stream():
    body = {'choices': [{'message': {'content': 'Fine.'}, 'finish_reason': 'stop'}]}
    with Server(lambda handler: handler.reply(200, json.dumps(body, indent=1))) as server:
        assert answer(remote(server)) == 'Fine.'


def test_a_silent_server():
    with Server(Waits()) as server, pytest.raises(RemoteError, match='silent'):
        answer(remote(server, read_timeout=0.05, retries=0))


def test_an_answer_that_never_ends():
    with Server(Waits('x')) as server, pytest.raises(RemoteError, match='answer_timeout'):
        answer(remote(server, answer_timeout=0.3))


def test_nobody_there():
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        url = f'http://127.0.0.1:{free.getsockname()[1]}/v1'
    model = remote(url, retries=1)
    with pytest.raises(RemoteError, match='cannot be reached'):
        answer(model)
    assert model.health.retries == 1


def test_a_cut_answer_says_so():
    with Server(says(MUG[:-1], end='length')) as server:
        model = remote(server, representation='qwen3-vl')
        assert 'mug' in answer(model)
    assert [flaw.kind for flaw in model.flaws] == [FlawKind.TRUNCATED, FlawKind.TRUNCATED]
    assert 'max_tokens' in model.flaws[1].message


def test_tls_is_checked(tmp_path):
    if shutil.which('openssl') is None:
        pytest.skip('openssl makes the certificate of this test')
    key, certificate = tmp_path / 'key.pem', tmp_path / 'certificate.pem'
    subprocess.run(
        ['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1']
        + ['-nodes', '-keyout', key, '-out', certificate, '-subj', '/CN=robot', '-days', '2']
        + ['-addext', 'subjectAltName=IP:127.0.0.1'],
        check=True,
        capture_output=True,
    )
    server = Server(says('Fine.'))
    server.use_tls(certificate, key)
    with server:
        with pytest.raises(RemoteError, match='ca_file'):
            answer(remote(server))
        assert server.requests == []
        assert answer(remote(server, ca_file=str(certificate))) == 'Fine.'


def test_tls_to_a_server_without_it():
    with Server() as server, pytest.raises(RemoteError, match='TLS failed'):
        answer(remote(server.url.replace('http:', 'https:'), retries=0))


def test_a_key_is_sent_and_never_shown(tmp_path, caplog, monkeypatch):
    """Not even where the server repeats it."""
    path = tmp_path / 'key'
    path.write_text(f'{KEY}\n')
    caplog.set_level(logging.DEBUG)
    with Server(fails(401, f'wrong key {KEY}')) as server:
        model = remote(server, api_key_file=str(path))
        with pytest.raises(RemoteError, match='refuses the API key') as caught:
            answer(model)
        assert server.requests[0][1]['Authorization'] == f'Bearer {KEY}'
    shown = [str(caught.value), repr(model.client.description), caplog.text]
    shown += [model.health.last_error, str(model.info)]
    assert all(KEY not in text for text in shown)
    monkeypatch.setenv('MY_KEY', KEY)
    with Server() as server:
        answer(remote(server, api_key_env='MY_KEY'))
        assert server.requests[0][1]['Authorization'] == f'Bearer {KEY}'


@pytest.mark.parametrize('content', ['', 'two words', 'a\nInjected: header'])
def test_a_key_that_is_none(tmp_path, content):
    path = tmp_path / 'key'
    path.write_text(content)
    with Server() as server:
        with pytest.raises(ConfigError) as caught:
            answer(remote(server, api_key_file=str(path)))
        assert server.requests == []
    assert not content or content not in str(caught.value)


def test_discovery():
    with Server(models=('only',)) as server:
        model = remote(server, model='')
        assert answer(model) == 'Fine.'
        assert server.requests[0][2]['model'] == 'only'
        assert model.info.name == 'only'
    with Server(models=('a', 'b')) as server:
        with pytest.raises(ConfigError, match='a, b'):
            remote(server, model='').check()
        with pytest.raises(ConfigError, match="no model 'c'"):
            remote(server, model='c').check()


def test_no_more_requests_at_a_time_than_allowed():
    busy, most, lock = 0, 0, threading.Lock()
    both = threading.Barrier(2, timeout=20)

    def step(handler):
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        both.wait()
        with lock:
            busy -= 1
        says('Fine.')(handler)

    with Server(step) as server:
        model = remote(server, concurrency=2)
        said: list[str] = []
        threads = [threading.Thread(target=lambda: said.append(answer(model))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert said == ['Fine.'] * 6
    assert most == 2
