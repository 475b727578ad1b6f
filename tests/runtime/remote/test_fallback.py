"""The local model answers while the link is down, and the remote one is taken back."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from tests.runtime.remote.server import Server, breaks_off, fails, says
from tests.runtime.remote.test_remote_model import remote
from unifiedmllm_ros.model.protocol import Conversation, ModelInfo, TextChunk
from unifiedmllm_ros.perception import Perceiver
from unifiedmllm_ros.runtime.remote.exchange import RemoteError
from unifiedmllm_ros.runtime.remote.fallback import FallbackModel

IMAGE = np.zeros((48, 64, 3), np.uint8)


class Local:
    """The smallest local model."""

    info = ModelInfo('nano', 'test')
    max_tokens = 7

    def encode(self, image):
        return image.shape

    def stream(self, features, conversation, cancel):
        yield TextChunk(f'local {features[0]}')


def perceiver(server, recheck=0.01, **changes):
    model = FallbackModel(remote(server, retries=0, **changes), Local(), recheck)
    made = Perceiver(model)
    made.set_image(IMAGE)
    return made, model


def test_down_and_back():
    with Server(says('remote'), fails(500), says('remote')) as server:
        server.get_status = 500
        asked, model = perceiver(server)
        first, second, third = (asked.ask('find it') for _ in range(3))
        assert [a.text for a in (first, second, third)] == ['remote', 'local 48', 'local 48']
        assert first.model.name == 'vlm'
        assert second.model.name == 'nano (standing in for vlm)'
        # The link was not tried for the third question.
        assert len(server.requests) == 2
        server.get_status = 200
        assert model.restored.wait(20)
        back = asked.ask('find it')
    assert (back.text, back.model.name) == ('remote', 'vlm')


def test_no_server_at_the_start():
    made, model = perceiver('http://127.0.0.1:1/v1', recheck=600.0)
    assert made.ask('find it').text == 'local 48'
    assert not model.restored.is_set()


def test_a_family_that_breaks_off_is_answered_by_the_local_model():
    with Server(breaks_off('[{"bbox')) as server:
        made, _ = perceiver(server, recheck=600.0, representation='qwen3-vl')
        assert made.ask('find it').text == 'local 48'


def test_half_a_native_answer_cannot_be_taken_back():
    with Server(breaks_off('Half')) as server:
        made, _ = perceiver(server, recheck=600.0)
        with pytest.raises(RemoteError):
            made.ask('find it')
        assert made.ask('find it').text == 'local 48'


def test_longest_answers_are_set_on_both():
    with Server(says('remote'), fails(500)) as server:
        _, model = perceiver(server, recheck=600.0)
        model.max_tokens = 99
        features = model.encode(IMAGE)
        assert [c.text for c in model.stream(features, Conversation('find it'))] == ['remote']
        assert server.requests[0][2]['max_tokens'] == 99
    assert model.max_tokens == model._local.max_tokens == 99


def test_nobody_looks_for_a_server_once_the_model_is_gone():
    made, model = perceiver('http://127.0.0.1:1/v1', recheck=600.0)
    made.ask('find it')
    gone = weakref.ref(model)
    del made, model
    gc.collect()
    assert gone() is None
