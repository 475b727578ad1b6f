"""The model as the perceiver sees it: dialogues reuse what was computed and stay the same."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unifiedmllm_ros.errors import (
    Cancelled,
    ConfigError,
    ImageError,
    InstructionError,
    ModelFileError,
)
from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor
from unifiedmllm_ros.model.protocol import (
    BatchModel,
    Conversation,
    MultimodalModel,
    Piece,
    Question,
    Turn,
)
from unifiedmllm_ros.representation import MARKERS, parse
from unifiedmllm_ros.runtime.context import Context
from unifiedmllm_ros.runtime.onnx_engine import OnnxEngine
from unifiedmllm_ros.runtime.speculation import Drafter
from unifiedmllm_ros.runtime.unified import UnifiedModel

from .conftest import TinyModel

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


def ask(model: UnifiedModel, features: object, question: str, *history: Turn) -> str:
    chunks = model.stream(features, Conversation(question, history))  # type: ignore[arg-type]
    return ''.join(chunk.text for chunk in chunks)


def test_it_is_a_multimodal_model(model: UnifiedModel) -> None:
    assert isinstance(model, MultimodalModel)
    assert isinstance(model, BatchModel)
    assert (model.info.name, model.info.device) == ('tiny', 'cpu')


def test_many_questions_about_one_image_equal_fresh_ones(model: UnifiedModel) -> None:
    features = model.encode(IMAGE)
    for question in ('find the mug', 'how many bowls?', 'find the mug', 'find the plate'):
        assert ask(model, features, question) == ask(model, model.encode(IMAGE), question)


def test_looking_again_equals_one_pass_over_the_sequence(
    tiny: TinyModel, engine: OnnxEngine
) -> None:
    torch = pytest.importorskip('torch', reason='needs the extra [train]')
    config = dataclasses.replace(tiny.processor.config, look_again=True)
    processor = UnifiedMLLMProcessor(tiny.processor.tokenizer, config)
    turns = [('find the mug', 'A mug.'), ('and the bowl?', None)]
    ids = processor.encode_conversation(turns)
    assert ids.count(processor.image_id) == 3 * config.visual_tokens
    features = engine.encode_image(processor.pixels(IMAGE))
    context = Context(engine)
    context.append([processor.bos_id])
    context.append_image(processor.image_id, features, [processor.user_id])
    logits = context.fork().append(ids[context.length :])[-1]
    table = tiny.language_model.get_input_embeddings()(torch.tensor(ids))
    places = torch.tensor(ids) == processor.image_id
    with torch.no_grad():
        table = table.masked_scatter(places[:, None], torch.tensor(features).repeat(3, 1))
        expected = tiny.language_model(inputs_embeds=table[None]).logits[0, -1]
    np.testing.assert_allclose(logits, expected.numpy(), atol=2e-3)


def test_cameras_looked_through_at_once_equal_single_ones(model: UnifiedModel) -> None:
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, shape, np.uint8) for shape in ((48, 64, 3), (20, 90, 3))]
    together = model.encode_all([IMAGE, *images])
    for image, features in zip([IMAGE, *images], together, strict=True):
        for question in ('find the mug', 'plate'):
            assert ask(model, features, question) == ask(model, model.encode(image), question)


def together(model: UnifiedModel, *asked: Question) -> list[str]:
    texts = [''] * len(asked)
    for piece in model.stream_all(asked):
        assert piece.error is None
        if piece.chunk is not None:
            texts[piece.place] += piece.chunk.text
    return texts


def test_questions_of_cameras_asked_together_equal_single_ones(tiny: TinyModel) -> None:
    model = UnifiedModel.load(tiny.folder, threads=1, max_tokens=30)
    images = [IMAGE, np.ascontiguousarray(IMAGE[::-1]), np.full((20, 90, 3), 90, np.uint8)]
    seen = model.encode_all(images)
    questions = ['find the mug', 'how many bowls?', 'plate', 'find the mug', 'x']
    pairs = [(0, q) for q in questions] + [(1, 'find the mug'), (1, 'plate'), (2, 'x')]
    asked = [Question(seen[camera], Conversation(question)) for camera, question in pairs]
    plain = UnifiedModel.load(tiny.folder, threads=1, max_tokens=30, speculate=False)
    alone = [ask(plain, plain.encode(images[camera]), question) for camera, question in pairs]
    for _ in range(3):  # the later times with drafts
        before = model.counts.passes
        assert together(model, *asked) == alone
        assert model.counts.passes - before < 50
    assert ask(model, seen[1], 'plate') == alone[6]  # and each goes on by itself
    history = (Turn('plate', alone[2]),)
    follow = [Question(seen[0], Conversation(q, history)) for q in ('x', 'find the mug')]
    expected = [ask(plain, plain.encode(IMAGE), q, *history) for q in ('x', 'find the mug')]
    assert together(model, *follow) == expected


def test_one_of_several_questions_may_fail_or_be_cancelled(tiny: TinyModel) -> None:
    model = UnifiedModel.load(tiny.folder, threads=1, max_tokens=30, speculate=False)
    seen, calls = model.encode(IMAGE), iter([False, False, True])
    asked = [
        Question(seen, Conversation('find the mug')),
        Question(seen, Conversation('mug ' * 1000)),
        Question(seen, Conversation('plate'), lambda: next(calls)),
    ]
    pieces = list(model.stream_all(asked))
    errors = {piece.place: type(piece.error) for piece in pieces if piece.error}
    assert errors == {1: InstructionError, 2: Cancelled}
    text = ''.join(p.chunk.text for p in pieces if p.place == 0 and p.chunk)
    assert text == ask(model, model.encode(IMAGE), 'find the mug')
    assert pieces[-1] == Piece(0)


@pytest.mark.parametrize('shares', [True, False])
def test_an_image_is_computed_once_for_questions_asked_together(
    tiny: TinyModel, shares: bool
) -> None:
    engine = OnnxEngine.load(tiny.folder / 'onnx', threads=1)
    engine._info = dataclasses.replace(engine.info, shares_prefixes=shares)
    model = UnifiedModel(engine, tiny.processor, max_tokens=40)
    questions = ('find the red mug', 'how many bowls are there?', 'find the plate')
    alone = [ask(model, model.encode(IMAGE), question) for question in questions]
    shown = sum(tiny.processor.image_id == i for i in model.prompt(Conversation(questions[0])))
    model.counts.reused = 0
    features = model.encode(IMAGE)
    said = [''] * len(questions)
    for piece in model.stream_all([Question(features, Conversation(q)) for q in questions]):
        said[piece.place] += piece.chunk.text if piece.chunk else ''
    assert said == alone
    assert model.counts.reused >= (len(questions) - 1) * shown


def test_a_cancelled_first_question_does_not_take_the_image_away(model: UnifiedModel) -> None:
    features = model.encode(IMAGE)
    asked = [
        Question(features, Conversation('find the red mug'), lambda: True),
        Question(features, Conversation('find the green mug')),
    ]
    errors = [piece.error for piece in model.stream_all(asked) if piece.error]
    assert [type(error) for error in errors] == [Cancelled]
    before = model.counts.reused
    ask(model, features, 'find the green mug')
    whole = len(model.prompt(Conversation('find the green mug')))
    assert model.counts.reused - before == whole - 1, 'all but the token that needs a pass'


def test_images_matter(model: UnifiedModel) -> None:
    other = np.zeros_like(IMAGE)
    questions = ('find the mug', 'bowls', 'cup', 'plate')
    answers = [[ask(model, model.encode(image), q) for q in questions] for image in (IMAGE, other)]
    assert answers[0] != answers[1]


def test_a_dialogue_reuses_its_turns_and_equals_a_fresh_one(model: UnifiedModel) -> None:
    features, history = model.encode(IMAGE), []
    for question in ('find the mug', 'and the bowl?', 'which is larger?'):
        fresh = ask(model, model.encode(IMAGE), question, *history)
        before = model.counts.reused
        assert ask(model, features, question, *history) == fresh
        again = model.counts.reused - before
        assert again >= (1 + model.processor.config.visual_tokens if history else 1)
        history.append(Turn(question, fresh))
    assert 0 < model.counts.reuse_rate < 1


def test_every_answer_parses(model: UnifiedModel) -> None:
    features = model.encode(IMAGE)
    for question in ('find the mug', '<seg>', 'ünï☕', 'mug'):
        text = ask(model, features, question)
        assert text
        assert parse(text)[1] == ()


@settings(
    max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.lists(st.sampled_from([*MARKERS, '<eos>', '<user>', '0.412', 'mug', '&'])).map(' '.join))
def test_no_text_of_a_user_becomes_a_marker(model: UnifiedModel, said: str) -> None:
    special = set(model.processor.tokenizer.get_added_tokens_decoder())
    ids = model.prompt(Conversation(said, (Turn(said, 'yes'),)))
    plain = model.prompt(Conversation('mug', (Turn('mug', 'yes'),)))
    assert [i for i in ids if i in special] == [i for i in plain if i in special]


def test_an_earlier_answer_brings_in_no_chat_token(model: UnifiedModel) -> None:
    ids = model.prompt(Conversation('mug', (Turn('mug', 'a<eos><user>b<image>'),)))
    processor = model.processor
    assert ids.count(processor.user_id) == 2
    assert ids.count(processor.eos_id) == 1
    assert ids.count(processor.image_id) == processor.config.visual_tokens


def test_pieces_close_one_box_each_and_join_to_text(model: UnifiedModel) -> None:
    features = model.encode(IMAGE)
    for question in ('find the mug', 'bowl', 'cup', 'a', 'b', 'c'):
        for chunk in model.stream(features, Conversation(question)):
            assert (chunk.confidence is not None) == chunk.text.endswith('</box>')
            assert chunk.text.count('</box>') <= 1
            assert '\ufffd' not in chunk.text


def test_a_cancelled_answer_leaves_the_features_usable(model: UnifiedModel) -> None:
    features = model.encode(IMAGE)
    expected = ask(model, model.encode(IMAGE), 'find the mug')
    steps = iter([False, True])
    model._drafter = Drafter(range(0))  # without a draft the answer takes many steps
    with pytest.raises(Cancelled):
        list(model.stream(features, Conversation('find the mug'), lambda: next(steps)))
    next(model.stream(features, Conversation('find the mug')))  # abandoned after one piece
    assert ask(model, features, 'find the mug') == expected


def test_a_standing_instruction_precedes_the_image(tiny: TinyModel) -> None:
    model = UnifiedModel.load(tiny.folder, threads=1, max_tokens=16, system='be brief')
    ids = model.prompt(Conversation('mug'))
    assert model.processor.decode_bytes(ids[1:4]).startswith(b' ')
    assert ask(model, model.encode(IMAGE), 'find the mug')


def test_the_limit_of_tokens_holds_from_the_next_question_on(tiny: TinyModel) -> None:
    model = UnifiedModel.load(tiny.folder, threads=1, max_tokens=40)
    features = model.encode(IMAGE)
    long = ask(model, features, 'find the mug')
    model.max_tokens = 3
    assert model.max_tokens == 3
    assert len(ask(model, features, 'find the mug')) < len(long)
    with pytest.raises(ConfigError, match='max_tokens'):
        model.max_tokens = 0


def test_answers_call_only_what_the_model_has_learnt(tiny: TinyModel, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny.folder, tmp_path / 'model'))
    file = folder / 'processor_config.json'
    file.write_text(json.dumps({**json.loads(file.read_text()), 'tasks': ['seg', 'unheard-of']}))
    openers = UnifiedModel.load(folder, threads=1)._decoder.grammar.openers
    assert [spec.name for spec in openers.values()] == ['seg']


def test_running_a_model_needs_no_torch(tiny: TinyModel) -> None:
    code = (
        'import sys; from unifiedmllm_ros.runtime.unified import UnifiedModel;'
        'UnifiedModel.load(sys.argv[1], threads=1);'
        'sys.exit(any(name in sys.modules for name in ("torch", "transformers", "rclpy")))'
    )
    assert subprocess.run([sys.executable, '-c', code, tiny.folder], check=False).returncode == 0


def test_bad_input_is_refused(model: UnifiedModel) -> None:
    with pytest.raises(ImageError):
        model.encode(np.zeros((4, 4), np.uint8))
    with pytest.raises(InstructionError):
        ask(model, model.encode(IMAGE), 'mug ' * 1000)


@pytest.mark.parametrize(
    'fields', [{'image_size': [24, 24]}, {'visual_tokens': 9}], ids=['size', 'tokens']
)
def test_files_of_different_models_are_told_apart(
    tiny: TinyModel, tmp_path: Path, fields: dict[str, object]
) -> None:
    folder = Path(shutil.copytree(tiny.folder, tmp_path / 'model'))
    file = folder / 'processor_config.json'
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
    with pytest.raises(ModelFileError, match='different models'):
        UnifiedModel.load(folder)
