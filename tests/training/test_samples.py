"""Settings, order, encoding and loss of the stages, piece by piece."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

torch = pytest.importorskip('torch', reason='needs the extra [train]')
pytest.importorskip('transformers', reason='needs the extra [train]')

from tests.model.twin import twin_processor  # noqa: E402
from tests.training.stage_world import write_conversations_of_all_media  # noqa: E402
from unifiedmllm_ros.data.conversation import Conversation, ConversationError, Turn  # noqa: E402
from unifiedmllm_ros.errors import ConfigError  # noqa: E402
from unifiedmllm_ros.model.presets import load_preset  # noqa: E402
from unifiedmllm_ros.training.encoding import FIRST, IGNORED, SECOND, Media, encode  # noqa: E402
from unifiedmllm_ros.training.loss import answer_loss, wanted_rows  # noqa: E402
from unifiedmllm_ros.training.samples import mixed_order  # noqa: E402
from unifiedmllm_ros.training.settings import (  # noqa: E402
    BatchSettings,
    EvaluationSettings,
    PhaseSettings,
    SavingSettings,
    SourceSettings,
    StageSettings,
    read_settings,
)
from unifiedmllm_ros.training.sources import Source  # noqa: E402

CONFIGS = sorted((Path(__file__).parents[2] / 'config' / 'training').glob('*.yaml'))
STAGES = [file for file in CONFIGS if not file.name.startswith('accelerate')]
LAUNCHERS = [file for file in CONFIGS if file.name.startswith('accelerate')]


def test_there_are_nine_configurations() -> None:
    names = {file.stem for file in STAGES}
    wanted = {f'{p}-stage{n}' for p in ('tabletop-nano', 'smol-135m', '7b') for n in (1, 2, 3)}
    assert wanted <= names


@pytest.mark.parametrize('file', STAGES, ids=lambda file: file.stem)
def test_configurations_hold_up_and_say_what_they_need(file: Path) -> None:
    number = int(yaml.safe_load(file.read_text())['stage'])
    settings = read_settings(Path(file.name), number, data_root=Path('here'), steps=7)
    assert settings.steps == 7
    assert settings.data_root == Path('here')
    header = ''.join(li for li in file.read_text().splitlines(True) if li.startswith('#'))
    for word in ('Data', 'Run', 'Cost:', f'train stage{number}'):
        assert f'\n# {word}' in header or f'{word} ' in header, word
    if isinstance(settings, StageSettings) and settings.model.preset:
        assert load_preset(settings.model.preset).text['model_type'] == 'llama'
    phases = ('tabletop-nano-stage1', 'tabletop-nano-stage2')
    assert isinstance(settings, PhaseSettings) == (file.stem in phases)


def test_every_field_is_in_the_page() -> None:
    page = (Path(__file__).parents[2] / 'docs' / 'training.md').read_text()
    for model in (StageSettings, BatchSettings, SavingSettings, EvaluationSettings):
        for name in model.model_fields:
            assert f'`{name}`' in page, name


@pytest.mark.parametrize('file', LAUNCHERS, ids=lambda file: file.stem)
def test_launcher_files_are_accelerates(file: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    loaded = load_config_from_file(str(file))
    assert loaded.num_processes == 8
    assert str(loaded.mixed_precision) == 'bf16'


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'speed': 3}, 'field speed'),
        ({'stage': 2}, 'language model'),
        ({'trainable': {}}, 'nothing is trained'),
        ({'model': {}}, 'field model'),
        ({'steps': 0}, 'field steps'),
        ({'trainable': {'parts': ['wheels']}}, 'field trainable.parts'),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, change: dict, message: str) -> None:
    values = {
        'stage': 1,
        'model': {'start': 'tabletop-nano'},
        'data': [{'path': 'a.jsonl'}],
        'out': 'out',
        'trainable': {'parts': ['adapters']},
        'steps': 3,
    }
    file = tmp_path / 'mine.yaml'
    file.write_text(yaml.safe_dump({**values, **change}))
    with pytest.raises(ConfigError, match=message):
        read_settings(file, 1)
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match='run train stage1'):
        read_settings(file, 3)
    with pytest.raises(ConfigError, match='not there'):
        read_settings(Path('lost.yaml'), 1)


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    made = []
    for name, count in (('a', 12), ('b', 40)):
        file = write_conversations_of_all_media(tmp_path / name, count, ('image',))
        made.append(Source(f'{name}/{file.name}', tmp_path, twin_processor()))
    return made


def test_order_is_weighted_grouped_and_goes_on_alike(sources: list[Source]) -> None:
    settings = [SourceSettings(path='a', weight=3), SourceSettings(path='b')]
    batch = BatchSettings(size=4, per_device=4)
    order = mixed_order(sources, settings, batch, 200, seed=0)
    assert len(order) == 800
    assert sum(number == 0 for number, _ in order) / 800 == pytest.approx(0.75, abs=0.05)
    # Every conversation of a source before any comes again.
    rows = [row for number, row in mixed_order(sources, settings, batch, 40, 0) if number == 0]
    assert min(np.bincount(rows, minlength=12)) >= 120 * 0.75 // 12 - 3
    assert mixed_order(sources, settings, batch, 500, seed=0)[:800] == order
    assert mixed_order(sources, settings, batch, 200, seed=1) != order
    plain = mixed_order(sources, settings, batch.model_copy(update={'group': False}), 200, 0)
    assert sorted(plain[:128]) == sorted(order[:128])
    assert spread(order, sources) < 0.3 * spread(plain, sources)


def spread(order: list, sources: list[Source]) -> float:
    tokens = np.array([sources[number].entries[row].tokens for number, row in order])
    return float(np.ptp(tokens.reshape(-1, 4), axis=1).mean())


def test_answers_alone_are_learnt_and_long_ones_cut() -> None:
    processor = twin_processor(look_again=True)
    turns = (
        Turn(role='user', text='find the red mug'),
        Turn(role='assistant', text='<p>mug</p><box>[0.100, 0.200, 0.300, 0.400]</box>'),
        Turn(role='user', text='segment it'),
        Turn(role='assistant', text='<seg><p>mug</p><box>[0.100, 0.200, 0.300, 0.400]</box></seg>'),
    )
    talk = Conversation(id='a', kind='test', image='a.png', turns=turns)
    media = Media(image=np.zeros((1, 3, 64, 96), np.float32))
    made = encode(processor, talk, media, 500)
    assert made.ids == processor.encode_conversation(list(talk.exchanges()))
    learnt = [index for index in made.labels if index != IGNORED]
    ends = [*processor.encode_answer(turns[1].text), processor.eos_id]
    assert learnt == [*ends, *processor.encode_answer(turns[3].text), processor.eos_id]
    assert made.experts == FIRST
    assert not made.cut
    whole = len(processor.encode_prefix(images=1)) + len(
        processor.encode_question(turns[0].text, images=1)
    )
    for length in range(whole + 1, len(made.ids)):
        short = encode(processor, talk, media, length)
        assert short.cut
        assert made.ids[: len(short.ids)] == short.ids
        # Never a part of the visual tokens that stand again behind a question.
        assert short.ids.count(processor.image_id) % processor.config.visual_tokens == 0
        assert short.labels[-1] != IGNORED
    with pytest.raises(ConversationError, match=r'a: \d+ tokens up to its first answer'):
        encode(processor, talk, media, whole)
    chat = Conversation(id='b', kind='test', turns=turns[:2])
    assert encode(processor, chat, Media(), 500).experts == SECOND
    assert encode(processor, chat, Media(), 500, 'first').experts == FIRST


def test_loss_is_cross_entropy_of_the_answers() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 1200)
    labels = torch.tensor([[-100, -100, 7, 150, -100], [-100, 3, -100, -100, 9]])
    wanted = wanted_rows(labels)
    assert wanted.tolist() == [[False, True, True, False, False], [True, False, False, True, False]]
    targets = labels[:, 1:][wanted[:, :-1]]
    expected = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction='sum'
    )
    rows = logits[wanted].requires_grad_()
    loss = answer_loss(rows, targets, 100, 0.0)
    torch.testing.assert_close(loss, expected)
    usual = torch.nn.functional.cross_entropy(rows, targets, reduction='sum')
    (given,), (wanted_,) = (torch.autograd.grad(2 * each, rows) for each in (loss, usual))
    torch.testing.assert_close(given, wanted_)
    chances = rows.log_softmax(-1)
    bell = torch.softmax(-0.5 * ((torch.arange(1001) - 50) / 4.0) ** 2, 0)
    soft = bell.log()[bell > 0] @ bell[bell > 0] - chances[1, 100:1101] @ bell
    soft = soft - chances[[0, 2, 3], targets[[0, 2, 3]]].sum()
    ours = answer_loss(rows, targets, 100, 0.004)
    torch.testing.assert_close(ours, soft)
    (given,), (wanted_,) = (torch.autograd.grad(each, rows) for each in (ours, soft))
    torch.testing.assert_close(given, wanted_, atol=1e-5, rtol=1e-4)
    assert float(answer_loss(rows[:0], targets[:0], 100, 0.0)) == 0
    # Softness that is next to none is none; with some, near numbers cost less than far ones.
    torch.testing.assert_close(answer_loss(logits[wanted], targets, 100, 1e-6), expected)
    near, far = torch.zeros(1, 1200), torch.zeros(1, 1200)
    near[0, 152], far[0, 190] = 20.0, 20.0
    goal = torch.tensor([150])
    assert answer_loss(near, goal, 100, 0.004) < answer_loss(far, goal, 100, 0.004)
    ideal = torch.log(1e-9 + torch.special.softmax(
        -0.5 * ((torch.arange(1001) - 50) / 4.0) ** 2, 0))  # fmt: skip
    exact = torch.full((1, 1200), -40.0)
    exact[0, 100:1101] = ideal
    assert float(answer_loss(exact, goal, 100, 0.004)) == pytest.approx(0, abs=1e-3)
