"""Detectors and the pair of a slow and a fast model, with tiny random networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import GroundingDinoProcessor

from unifiedmllm_ros.errors import Cancelled, ConfigError, ModelError
from unifiedmllm_ros.model.protocol import Conversation, ModelInfo, MultimodalModel, TextChunk, Turn
from unifiedmllm_ros.perception import Perceiver
from unifiedmllm_ros.runtime.loading import load_model
from unifiedmllm_ros.runtime.local.description import LocalDescription
from unifiedmllm_ros.runtime.local.detector import DetectorModel
from unifiedmllm_ros.runtime.local.family import load_image_processor, load_tokenizer
from unifiedmllm_ros.runtime.local.pair import PairModel

IMAGE = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
DETECTORS = ('grounding-dino', 'mm-grounding-dino', 'owlv2')


@pytest.fixture(scope='session')
def detector(checkpoint):
    def load(name, threshold=0.0):
        description = LocalDescription(
            kind='local', weights=str(checkpoint(name)), threshold=threshold
        )
        return DetectorModel.load(description, threads=1)

    return load


@pytest.mark.parametrize('name', DETECTORS)
def test_boxes_with_scores_end_to_end(detector, name):
    model = detector(name)
    assert isinstance(model, MultimodalModel)
    perceiver = Perceiver(model)
    perceiver.set_image(IMAGE)
    answer = perceiver.ask('segment the red mug and the blue bowl')
    assert answer.problems == ()
    (call,) = answer.response.calls
    assert call.task == 'seg'
    assert {region.phrase for region in call.regions} <= {'red mug', 'blue bowl'}
    boxes = [box for region in call.regions for box in region.boxes]
    assert boxes
    assert all(box.confidence is not None and 0 <= box.confidence <= 1 for box in boxes)
    assert answer.model.backend.endswith(name.removeprefix('mm-'))


@pytest.mark.parametrize('name', DETECTORS)
def test_nothing_above_the_threshold(detector, name):
    perceiver = Perceiver(detector(name, threshold=1.0))
    perceiver.set_image(IMAGE)
    assert perceiver.ask('find the mug').text == 'Nothing found.'


@pytest.mark.parametrize('name', ['grounding-dino', 'mm-grounding-dino'])
def test_scores_and_boxes_are_those_of_the_published_processor(detector, checkpoint, name):
    folder = checkpoint(name)
    published = GroundingDinoProcessor(load_image_processor(folder), load_tokenizer(folder))
    model = detector(name)
    inputs = published(images=IMAGE, text='red mug. blue bowl.', return_tensors='pt')
    with torch.inference_mode():
        outputs = model._network.module(**inputs)
        found = model._finder.find(
            model._network.module, model.encode(IMAGE).tensors, ('red mug', 'blue bowl')
        )
    (expected,) = published.post_process_grounded_object_detection(
        outputs, inputs['input_ids'], threshold=0.0
    )
    rows = list(zip(expected['scores'].tolist(), expected['boxes'].tolist(), strict=True))
    # Queries whose best token is a full stop or a bracket name nothing.
    assert 0 < len(found) <= len(rows)
    for one in found:
        x, y, width, height = one.box
        ours = (one.score, x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        assert any(np.allclose(ours, (score, *box), atol=1e-4) for score, box in rows)


def test_more_phrases_than_the_text_holds(detector, caplog):
    model = detector('grounding-dino')
    found = model.detect(model.encode(IMAGE), 'find it', phrases=['red mug'] * 200)
    assert found.parts
    assert 'left out' in caplog.text


def test_a_cancel_and_scores_that_are_none(detector):
    model = detector('owlv2')
    with pytest.raises(Cancelled):
        list(model.stream(model.encode(IMAGE), Conversation('find it'), lambda: True))
    for weight in model._network.module.parameters():
        weight.data.fill_(float('nan'))
    with pytest.raises(ModelError, match='no numbers'):
        list(model.stream(model.encode(IMAGE), Conversation('find it')))


class Slow:
    """A language model that says what it is told to."""

    info = ModelInfo('vlm', 'test')
    max_tokens = 9

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def encode(self, image):
        return image

    def stream(self, features, conversation, cancel):
        self.asked.append(conversation.question)
        yield TextChunk(self.answers.pop(0))


SEEN = 'That. <seg>cups only<p>red mug</p><box>[0.100, 0.100, 0.200, 0.200]</box></seg>'


def pair(detector, *answers, **options):
    slow = Slow(*answers)
    model = PairModel(slow, detector('owlv2'), **options)
    perceiver = Perceiver(model)

    def ask(question, **more):
        perceiver.set_image(IMAGE)
        return perceiver.ask(question, execute=False, **more)

    return ask, slow


def test_the_slow_model_reads_once_and_the_detector_follows(detector):
    ask, slow = pair(detector, SEEN)
    first, second, third = (ask('watch what one drinks from') for _ in range(3))
    assert slow.asked == ['watch what one drinks from']
    assert first.text == SEEN
    assert first.model.name == 'vlm'
    assert third.model.name.endswith('(following vlm)')
    (call,) = second.response.calls
    assert (call.task, call.argument) == ('seg', 'cups only')
    assert {region.phrase for region in call.regions} == {'red mug'}
    assert call.regions[0].boxes[0].confidence is not None


@pytest.mark.parametrize(
    'answer',
    ['Nothing here.', '<edit>make it night</edit>', 'Go. <gen>a cat</gen>'],
)
def test_what_names_nothing_to_follow_goes_to_the_slow_model_again(detector, answer):
    ask, slow = pair(detector, answer, answer)
    ask('do it')
    ask('do it')
    assert len(slow.asked) == 2


def test_a_new_instruction_history_and_age_ask_the_slow_model(detector):
    now = [0.0]
    ask, slow = pair(detector, *[SEEN] * 4, refresh=60.0, clock=lambda: now[0])
    ask('watch the mug')
    ask('watch the cup')
    ask('watch the mug', history=(Turn('hello', 'Hello.'),))
    ask('watch the mug')
    assert len(slow.asked) == 3
    now[0] = 61.0
    ask('watch the mug')
    assert len(slow.asked) == 4


def test_a_pair_by_description(checkpoint, tmp_path):
    for name, family in (('slow', 'qwen3-vl'), ('fast', 'owlv2')):
        (tmp_path / f'{name}.yaml').write_text(f'kind: local\nweights: {checkpoint(family)}\n')
    path = tmp_path / 'pair.yaml'
    path.write_text('kind: pair\nslow: slow.yaml\nfast: fast.yaml\n')
    model = load_model(str(path))
    assert isinstance(model, PairModel)
    model.max_tokens = 3
    assert list(model.stream(model.encode(IMAGE), Conversation('find it'), lambda: False))
    path.write_text('kind: pair\nslow: fast.yaml\nfast: slow.yaml\n')
    with pytest.raises(ConfigError, match='no detector'):
        load_model(str(path))
