"""Cost of adapters, the remote model and the grammar, and sizes of the images that go out."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from typing import Any

import numpy as np

from benchmarks.frames import percentiles, sample_frames
from tests.runtime.remote.server import Handler, Server, says
from unifiedmllm_ros.model.adapters.base import Size
from unifiedmllm_ros.model.adapters.registry import ADAPTERS
from unifiedmllm_ros.model.protocol import Conversation, Turn
from unifiedmllm_ros.runtime.local.automaton import ByteState
from unifiedmllm_ros.runtime.local.constraint import Constraint
from unifiedmllm_ros.runtime.remote.description import RemoteDescription
from unifiedmllm_ros.runtime.remote.model import RemoteModel

CALLS = 100
CAMERAS, QUESTIONS, WORK_SECONDS = 16, 12, 0.05
SIDES, QUALITIES = (320, 448, 640), (75, 85, 95)
IMAGE = Size(640, 480)
VOCABULARY = 151_936
MUGS = ', '.join(f'{{"bbox_2d": [{n}, {n}, {n + 90}, {n + 90}], "label": "mug"}}' for n in range(9))
TRANSCRIPTS = {
    'qwen2.5-vl': f'```json\n[{MUGS}]\n```',
    'qwen3-vl': f'```json\n[{MUGS}]\n```',
    'florence2': 'mug' + '<loc_10><loc_20><loc_300><loc_400>' * 9,
    'paligemma': ' ; '.join(['<loc0010><loc0020><loc0300><loc0400> mug'] * 9),
    'kosmos2': '<phrase>a mug</phrase><object><patch_index_0001><patch_index_0500></object>' * 9,
    'native': '<p>mug</p>' + '<box>[0.100, 0.200, 0.300, 0.400]</box>' * 9,
}


def run() -> dict[str, Any]:
    """All of it, against a scripted server on this machine."""
    return {
        'what': 'prompt and parsing of nine boxes by adapter; one streamed answer of 40 pieces, '
        f'bare and through RemoteModel; {CAMERAS} cameras on one server of 4 places and '
        f'{WORK_SECONDS * 1000:.0f} ms; masks of the grammar over {VOCABULARY} tokens for an '
        'answer with two boxes, first and later; JPEG of the sample frames (640x480)',
        'adapter_ms': {name: _adapter(name) for name in ADAPTERS},
        'constraint_ms': _constraint(),
        'call_ms': _calls(),
        'cameras_ms': _cameras(),
        'jpeg_kib': _jpegs(),
    }


def _adapter(name: str) -> dict[str, float]:
    adapter, text = ADAPTERS[name], TRANSCRIPTS[name]
    turns = (Turn('find the mugs', TRANSCRIPTS['native']),) * 3
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        adapter.messages(Conversation('find the mugs', turns), IMAGE)
        adapter.parse(text, IMAGE, question='find the mugs')
        times.append((time.perf_counter() - start) * 1000)
    return percentiles(times)


def _constraint() -> dict[str, Any]:
    """Masks for each byte of an answer, over a vocabulary as large as Qwen's, made by chance."""
    start = time.perf_counter()
    constraint = Constraint(_vocabulary(), [0])
    made = (time.perf_counter() - start) * 1000
    first, later = _masks(constraint), _masks(constraint)
    return {'prepare': round(made, 1), 'first': percentiles(first), 'later': percentiles(later)}


def _vocabulary() -> list[bytes]:
    """All bytes, then words, of which one in forty holds a character of our markers."""
    chance = random.Random(0)
    letters, marks = b'abcdefghijklmnopqrstuvwxyz ', b'<>&/'
    spelled = [b'', *(bytes([byte]) for byte in range(256))]
    while len(spelled) < VOCABULARY:
        word = bytes(chance.choices(letters, k=chance.randint(2, 8)))
        if chance.random() < 1 / 40:
            word += bytes([chance.choice(marks)])
        spelled.append(word)
    return spelled


def _masks(constraint: Constraint) -> list[float]:
    state, times = ByteState(), []
    answer = f'A mug. <seg>{TRANSCRIPTS["native"][:88]}</seg>'.encode()
    for byte in answer:
        start = time.perf_counter()
        constraint.allowed(state)
        times.append((time.perf_counter() - start) * 1000)
        # Byte b has the id b + 1.
        state = constraint.advance(state, byte + 1)
    return times


def _model(server: Server, **changes: Any) -> RemoteModel:
    settings = {'kind': 'remote', 'url': server.url, 'model': 'vlm', **changes}
    return RemoteModel(RemoteDescription.model_validate(settings))


def _calls() -> dict[str, Any]:
    """The same request by http.client alone, and through the model, in turn."""
    bare, through = [], []
    with Server(says(*['word '] * 40)) as server:
        model = _model(server)
        image = model.encode(sample_frames(1)[0])
        list(model.stream(image, Conversation('find it')))
        body = json.dumps(server.requests[0][2])
        for _ in range(CALLS):
            start = time.perf_counter()
            _bare(server, body)
            bare.append((time.perf_counter() - start) * 1000)
            start = time.perf_counter()
            list(model.stream(image, Conversation('find it')))
            through.append((time.perf_counter() - start) * 1000)
    difference = float(np.median(through) - np.median(bare))
    return {
        'bare': percentiles(bare),
        'through': percentiles(through),
        'overhead_p50': round(difference, 2),
    }


def _bare(server: Server, body: str) -> None:
    connection = http.client.HTTPConnection('127.0.0.1', server.server_address[1])
    connection.request('POST', '/v1/chat/completions', body)
    connection.getresponse().read()
    connection.close()


def _cameras() -> dict[str, Any]:
    times: list[float] = []

    def work(handler: Handler) -> None:
        time.sleep(WORK_SECONDS)
        says('Fine.')(handler)

    with Server(work) as server:
        model = _model(server, concurrency=4)
        image = model.encode(sample_frames(1)[0])

        def camera() -> None:
            for _ in range(QUESTIONS):
                start = time.perf_counter()
                list(model.stream(image, Conversation('find it')))
                times.append((time.perf_counter() - start) * 1000)

        threads = [threading.Thread(target=camera) for _ in range(CAMERAS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    figures = percentiles(times)
    ratio = round(figures['p99'] / figures['p50'], 2)
    return {**figures, 'p99_over_p50': ratio, 'answers': len(times)}


def _jpegs() -> dict[str, dict[str, float]]:
    """Mean size of the JPEG itself; as base64 in JSON it is a third more."""
    frames = sample_frames(10)
    sizes: dict[str, dict[str, float]] = {}
    with Server() as server:
        for side in SIDES:
            row = sizes.setdefault(str(side), {})
            for quality in QUALITIES:
                model = _model(server, max_side=side, jpeg_quality=quality)
                encoded = [len(model.encode(frame).url) * 3 / 4 for frame in frames]
                row[str(quality)] = round(float(np.mean(encoded)) / 1024, 1)
    return sizes
