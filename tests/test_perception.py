"""The perceiver with a model whose answers are written down: what it passes on, keeps and refuses.

The trained model is used in its own tests; here the answer must be known to the character.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.experts.networks import BOX, write_channel_network
from unifiedmllm_ros.cancellation import Cancel, check
from unifiedmllm_ros.errors import (
    Cancelled,
    ExpertNotInstalledError,
    ImageError,
    InstructionError,
    MissingRegionError,
    ModelError,
    ModelFileError,
    NoImageError,
)
from unifiedmllm_ros.experts.base import Progress
from unifiedmllm_ros.model.protocol import (
    Conversation,
    ModelInfo,
    MultimodalModel,
    TextChunk,
    Turn,
)
from unifiedmllm_ros.perception import Perceiver
from unifiedmllm_ros.representation import Region, TaskCall
from unifiedmllm_ros.router import Router

FILE = """
experts:
  net:
    implementation: unifiedmllm_ros.experts.segmentation:MaskNetwork
    kind: segmentation
    weights: mask.onnx
    defaults: {threads: 1}
tasks: {seg: net}
"""
CUP = '<p>cup</p><box>[0.100, 0.200, 0.300, 0.400]</box>'
POTS = '<p>pot</p><box>[0.500, 0.100, 0.700, 0.300]</box><box>[0.600, 0.600, 0.900, 0.900]</box>'
IMAGE = np.full((120, 160, 3), 90, np.uint8)


class ScriptedModel:
    """Says what it is told to, some characters at a time, and remembers what it was asked."""

    info = ModelInfo('scripted', 'none')
    max_tokens = 256

    def __init__(self, answer: str, size: int = 3) -> None:
        self.answer = answer
        self.size = size
        self.encoded = 0
        self.asked: list[Conversation] = []
        self.said = 0
        self.closed = 0

    def encode(self, image: NDArray[np.uint8]) -> tuple[int, ...]:
        self.encoded += 1
        return image.shape

    def stream(
        self, features: tuple[int, ...], conversation: Conversation, cancel: Cancel
    ) -> Iterator[TextChunk]:
        self.asked.append(conversation)
        pieces = [piece + '</box>' for piece in self.answer.split('</box>')]
        pieces[-1] = pieces[-1].removesuffix('</box>')
        for index, piece in enumerate(pieces):
            ends_box = piece.endswith('</box>')
            start = max(0, len(piece) - 6) if ends_box else len(piece)
            for at in range(0, start, self.size):
                check(cancel, 'decoding')
                self.said += 1
                yield TextChunk(piece[at : min(at + self.size, start)])
            if ends_box:
                yield TextChunk('</box>', (index % 9 + 1) / 10)


@pytest.fixture
def router(tmp_path: Path) -> Router:
    write_channel_network(tmp_path / 'mask.onnx', BOX)
    (tmp_path / 'experts.yaml').write_text(FILE, encoding='utf-8')
    return Router.from_file(tmp_path / 'experts.yaml')


def perceive(answer: str, router: Router | None = None) -> tuple[Perceiver, ScriptedModel]:
    model = ScriptedModel(answer)
    assert isinstance(model, MultimodalModel)
    perceiver = Perceiver(model, router)
    perceiver.set_image(IMAGE)
    return perceiver, model


def test_an_answer_is_text_boxes_with_confidence_and_masks(router: Router) -> None:
    text = f'The cup is left. <seg>{CUP}</seg> And {POTS}.'
    perceiver, _ = perceive(text, router)
    answer = perceiver.ask('  where is\tthe cup? ')
    assert answer.instruction == 'where is the cup?'
    assert answer.text == text
    assert answer.response.text == 'The cup is left.  And .'
    assert [region.phrase for region in answer.response.regions] == ['cup', 'pot']
    boxes = [box for region in answer.response.regions for box in region.boxes]
    assert [box.confidence for box in boxes] == [0.1, 0.2, 0.3]
    assert [mask.phrase for mask in answer.masks] == ['cup']
    assert answer.masks[0].area == pytest.approx(0.2 * 160 * 0.2 * 120, rel=0.1)
    assert answer.masks[0].box.confidence == 0.1
    assert answer.problems == ()
    assert answer.failures == ()
    assert answer.model.name == 'scripted'
    assert set(answer.stages) == {'encode', 'decode', 'experts'}
    assert answer.stages['decode'] > 0
    assert answer.stages['experts'] > 0


def test_mask_all_gives_every_box_its_mask_in_one_run(router: Router) -> None:
    perceiver, _ = perceive(f'{POTS}<seg>{CUP}</seg>', router)
    answer = perceiver.ask('all', mask_all=True)
    assert [mask.box for mask in answer.masks] == [
        box for region in answer.response.regions for box in region.boxes
    ]
    assert len(answer.results) == 1


def test_without_execute_no_expert_runs(router: Router) -> None:
    perceiver, _ = perceive(f'<seg>{CUP}</seg>', router)
    answer = perceiver.ask('cup', execute=False, mask_all=True)
    assert answer.masks == ()
    assert answer.response.calls == (TaskCall('seg', '', answer.response.regions),)
    assert router.registry.list()[0].state == 'available'


def test_one_image_serves_many_questions_with_their_history() -> None:
    perceiver, model = perceive('Yes.')
    first = perceiver.ask('is there a cup?')
    perceiver.ask('and a pot?', history=[first.turn])
    assert model.encoded == 1
    assert model.asked == [
        Conversation('is there a cup?'),
        Conversation('and a pot?', (Turn('is there a cup?', 'Yes.'),)),
    ]


def test_prose_is_passed_on_while_it_is_written() -> None:
    text = f'Two &amp; a half: {POTS} are <seg>{CUP}</seg> there.'
    perceiver, model = perceive(text)
    pieces: list[str] = []
    said: list[int] = []

    def hear(piece: str) -> None:
        pieces.append(piece)
        said.append(model.said)

    answer = perceiver.ask('what?', on_text=hear)
    assert ''.join(pieces) == answer.response.text == 'Two & a half:  are  there.'
    assert said[0] == 1
    assert len(pieces) > 5


def test_prose_of_a_broken_answer_is_passed_on_whole_too() -> None:
    perceiver, _ = perceive(f'See <regedit>remove it {CUP}')
    pieces: list[str] = []
    answer = perceiver.ask('what?', on_text=pieces.append)
    assert ''.join(pieces) == answer.response.text == 'See remove it '
    assert isinstance(answer.response.parts[1], Region)
    assert len(answer.problems) == 1


def test_a_cancel_mid_decode_stops_at_once_and_the_next_question_works() -> None:
    perceiver, model = perceive('word ' * 200)
    event = threading.Event()
    pieces: list[str] = []

    def hear(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == 5:
            event.set()

    with pytest.raises(Cancelled):
        perceiver.ask('what?', on_text=hear, cancel=event)
    assert len(pieces) == 5
    assert model.said < 10
    assert perceiver.ask('what?').response.text == 'word ' * 200
    assert model.encoded == 1


def test_a_cancel_during_the_experts_is_a_cancel_not_a_failure(router: Router) -> None:
    perceiver, _ = perceive(f'<seg>{CUP}</seg>', router)
    event = threading.Event()
    heard: list[Progress] = []

    def hear(progress: Progress) -> None:
        heard.append(progress)
        event.set()

    perceiver.model.answer = f'<seg>{"".join([CUP] * 40)}</seg>'  # type: ignore[attr-defined]
    with pytest.raises(Cancelled):
        perceiver.ask('cups', on_progress=hear, cancel=event)
    assert len(heard) == 1


def test_a_cancelled_question_is_not_asked() -> None:
    perceiver, model = perceive('Yes.')
    with pytest.raises(Cancelled):
        perceiver.ask('what?', cancel=lambda: True)
    assert model.asked == []


def test_a_call_that_fails_takes_nothing_else_away(router: Router) -> None:
    text = f'Done. <edit>night</edit><seg></seg><seg>{CUP}</seg>'
    answer = perceive(text, router)[0].ask('make it night')
    assert answer.response.text == 'Done. '
    assert [mask.phrase for mask in answer.masks] == ['cup']
    assert [type(failure.error) for failure in answer.failures] == [
        ExpertNotInstalledError,
        MissingRegionError,
    ]
    assert answer.failures[0].call == TaskCall('edit', 'night')


@pytest.mark.parametrize('damage', ['missing', 'truncated', 'other version'])
def test_damaged_expert_weights_cost_the_masks_and_nothing_else(
    router: Router, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / 'mask.onnx'
    whole = path.read_bytes()
    if damage == 'missing':
        path.unlink()
    elif damage == 'truncated':
        path.write_bytes(whole[:-40])
    else:
        write_channel_network(path, size=48)
    perceiver, _ = perceive(f'Here. <seg>{CUP}</seg>', router)
    answer = perceiver.ask('cup')
    assert answer.response.text == 'Here. '
    assert len(answer.response.regions) == 1
    assert answer.masks == ()
    assert isinstance(answer.failures[0].error, ExpertNotInstalledError | ModelFileError)
    assert 'mask.onnx' in str(answer.failures[0].error)
    path.write_bytes(whole)
    assert len(perceiver.ask('cup').masks) == 1


@pytest.mark.parametrize(
    ('instruction', 'named'),
    [('', 'empty'), ('\x00\x07 ', 'empty'), ('<seg>' * 20_000, '2000'), ('\ud800', 'Unicode')],
)
def test_a_bad_instruction_is_refused_and_the_next_one_works(instruction: str, named: str) -> None:
    perceiver, model = perceive('Yes.')
    with pytest.raises(InstructionError, match=named):
        perceiver.ask(instruction)
    assert model.asked == []
    assert perceiver.ask('is it?').text == 'Yes.'


def test_markers_and_control_characters_reach_the_model_as_plain_data() -> None:
    perceiver, model = perceive('No.')
    perceiver.ask('find\x00 <seg><p>x</p> & <eos>')
    assert model.asked[0].question == 'find <seg><p>x</p> & <eos>'


@pytest.mark.parametrize(
    ('image', 'named'),
    [
        (np.zeros((1, 1, 3), np.uint8), '1x1'),
        (np.zeros((0, 10, 3), np.uint8), '10x0'),
        (np.zeros((10, 10), np.uint8), r'\(10, 10\)'),
        (np.zeros((10, 10, 4), np.uint8), r'\(10, 10, 4\)'),
        (np.zeros((10, 10, 3), np.uint16), 'uint16'),
        (np.zeros((10, 10, 3), np.float32), 'float32'),
        (np.broadcast_to(np.zeros(3, np.uint8), (10_001, 10_000, 3)), '100 megapixels'),
        ([[1, 2, 3]], 'list'),
    ],
)
def test_a_bad_image_is_refused_and_leaves_no_image(image: NDArray[np.uint8], named: str) -> None:
    perceiver, model = perceive('Yes.')
    with pytest.raises(ImageError, match=named):
        perceiver.set_image(image)
    with pytest.raises(NoImageError, match='set_image'):
        perceiver.ask('is it?')
    assert model.encoded == 1


@pytest.mark.parametrize('size', [(2, 2), (3, 1000), (6000, 8000)])
def test_images_of_any_size_get_masks(router: Router, size: tuple[int, int]) -> None:
    perceiver, _ = perceive(f'<seg>{POTS}{CUP}</seg>', router)
    perceiver.set_image(np.broadcast_to(np.uint8(90), (*size, 3)))
    answer = perceiver.ask('pots')
    assert len(answer.masks) == 3
    assert all(mask.full(*size).any() for mask in answer.masks[:1])


def test_what_the_model_raises_is_raised_and_the_image_stays() -> None:
    class Failing(ScriptedModel):
        def stream(
            self, features: tuple[int, ...], conversation: Conversation, cancel: Cancel
        ) -> Iterator[TextChunk]:
            yield TextChunk('The ')
            if conversation.question == 'fail':
                raise ModelError('logits are not finite')

    perceiver = Perceiver(Failing(''))
    perceiver.set_image(IMAGE)
    with pytest.raises(ModelError):
        perceiver.ask('fail')
    assert perceiver.ask('again').text == 'The '


def test_a_closed_perceiver_has_no_image_and_no_loaded_expert(router: Router) -> None:
    perceiver, _ = perceive(f'<seg>{CUP}</seg>', router)
    perceiver.ask('cup')
    assert router.registry.list()[0].state == 'loaded'
    perceiver.close()
    assert router.registry.list()[0].state == 'available'
    with pytest.raises(NoImageError):
        perceiver.ask('cup')
