"""The drafts of tabletop-nano over frames whose boxes move."""

from __future__ import annotations

import pytest

from tests.sample_frames import sample_frames
from unifiedmllm_ros.locations import model_folder
from unifiedmllm_ros.model.protocol import Conversation
from unifiedmllm_ros.runtime.speculation import Draft
from unifiedmllm_ros.runtime.unified import UnifiedModel


def test_boxes_that_move_are_drafted_by_what_the_model_says_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames = sample_frames(20)[:6]
    passes, said = [], []
    for revised in (True, False):
        if not revised:
            monkeypatch.setattr(Draft, 'revise', lambda *_: None)
        model = UnifiedModel.load(model_folder('tabletop-nano'), threads=1)
        question = Conversation('segment the red mug')
        texts = []
        for frame in frames:
            features = model.encode(frame.image)
            texts.append(''.join(chunk.text for chunk in model.stream(features, question)))
        passes.append(model.counts.passes)
        said.append(texts)
    assert said[0] == said[1]
    assert len(set(said[0])) == len(frames), 'the camera moves'
    assert passes[0] < 0.8 * passes[1]
