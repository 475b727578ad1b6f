"""What can go wrong in a run: each a clear error, and nothing lost."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')
pytest.importorskip('accelerate', reason='needs the extra [train]')

from safetensors import safe_open  # noqa: E402

from tests.training.stage_world import (  # noqa: E402
    stage,
    wav_bytes,
    write_conversations_of_all_media,
    write_picture,
    write_twin,
)
from unifiedmllm_ros.data.conversation import (  # noqa: E402
    ConversationError,
    read_conversations,
)
from unifiedmllm_ros.data.shards import ShardError, write_shards  # noqa: E402
from unifiedmllm_ros.errors import (  # noqa: E402
    ConfigError,
    ModelFileError,
    NotFiniteError,
    WriteError,
)
from unifiedmllm_ros.training.media import MediaError  # noqa: E402
from unifiedmllm_ros.training.samples import Samples  # noqa: E402
from unifiedmllm_ros.training.stages import run  # noqa: E402


@pytest.fixture(scope='module')
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_twin('tabletop-nano', tmp_path_factory.mktemp('world') / 'twin')


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_conversations_of_all_media(tmp_path / 'data', 12, ('image',))


def with_line(data: Path, **fields: Any) -> Path:
    turns = [{'role': 'user', 'text': 'hm'}, {'role': 'assistant', 'text': 'A mug.'}]
    line = {'id': 'bad', 'kind': 'test', 'turns': turns, **fields}
    with data.open('a') as file:
        file.write(json.dumps(line) + '\n')
    return data


def answering(text: str) -> list[dict[str, str]]:
    return [{'role': 'user', 'text': 'hm'}, {'role': 'assistant', 'text': text}]


@pytest.mark.parametrize(
    'answer',
    [
        '<p>mug</p><box>[0.500, 0.203, 1.587, 0.441]</box>',
        '<p>mug</p><box>[0.587, 0.203, 0.412, 0.441]</box>',
        '<fly>to the moon</fly>',
    ],
    ids=['out of range', 'reversed', 'unknown task'],
)
def test_wrong_answers_are_found_before_the_first_step(
    twin: Path, data: Path, tmp_path: Path, answer: str
) -> None:
    with_line(data, turns=answering(answer))
    with pytest.raises(ConversationError, match=r'train\.jsonl, line 13, field turns\.1'):
        run(stage(1, twin, data, tmp_path / 'out'))


def test_missing_picture_is_found_before_the_first_step(
    twin: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConversationError, match=r'line 13, field image: .*lost\.png'):
        run(stage(1, twin, with_line(data, image='lost.png'), tmp_path / 'out'))


def test_medium_without_a_branch_is_named(twin: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='conversation bad: has audio'):
        run(stage(1, twin, with_line(data, audio='sound.wav'), tmp_path / 'out'))


def test_shards_train_and_a_truncated_one_is_found(twin: Path, data: Path, tmp_path: Path) -> None:
    (shard,) = write_shards(read_conversations(data), data.parent, tmp_path / 'shards')
    settings = stage(1, twin, shard, tmp_path / 'out', steps=2)
    assert run(settings)['conversations'] == {shard.name: 12}
    shard.write_bytes(shard.read_bytes()[:-11000])
    with pytest.raises(ShardError, match=r'shard-000000\.tar: is cut off or damaged at byte'):
        run(stage(1, twin, shard, tmp_path / 'again'))


def test_damaged_picture_stops_with_a_checkpoint(twin: Path, data: Path, tmp_path: Path) -> None:
    picture = data.parent / 'damaged.png'
    write_picture(picture)
    picture.write_bytes(picture.read_bytes()[:60])
    many = data.read_text() * 4
    data.write_text(many)
    with_line(data, image='damaged.png')
    settings = stage(1, twin, data, tmp_path / 'out', steps=13, batch={'size': 4, 'group': False})
    with pytest.raises(MediaError, match=r'conversation bad: image .*damaged\.png is damaged'):
        run(settings)
    (kept,) = settings.out.glob('checkpoint-*')
    write_picture(picture)
    assert run(settings, resume=True)['steps'] == 13
    assert int(kept.name.split('-')[1]) > 0


def test_checkpoint_of_another_architecture(twin: Path, data: Path, tmp_path: Path) -> None:
    settings = stage(2, twin, data, tmp_path / 'out', steps=1)
    run(settings)
    other = write_twin('7b', tmp_path / 'other')
    changed = settings.model_copy(update={'model': type(settings.model)(start=str(other))})
    with pytest.raises(ModelFileError, match='another architecture'):
        run(changed, resume=True)
    (twin.parent / 'mixed').mkdir(exist_ok=True)
    for file in ('config.json', 'tokenizer.json', 'processor_config.json'):
        (twin.parent / 'mixed' / file).write_bytes((twin / file).read_bytes())
    (twin.parent / 'mixed' / 'model.safetensors').write_bytes(
        (other / 'model.safetensors').read_bytes()
    )
    with pytest.raises(ModelFileError, match='mixed'):
        run(stage(2, twin.parent / 'mixed', data, tmp_path / 'new'))


def test_full_disk_leaves_the_earlier_checkpoint(
    twin: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = stage(2, twin, data, tmp_path / 'out', steps=4, saving={'every': 2, 'keep': 1})
    read, limit = Samples.__getitem__, resource.getrlimit(resource.RLIMIT_FSIZE)

    def filling(self: Samples, index: int) -> Any:
        if index >= 12:  # of the last step: no file may grow beyond this any more
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limit[1]))
        return read(self, index)

    monkeypatch.setattr(Samples, '__getitem__', filling)
    try:
        with pytest.raises(WriteError, match=r'checkpoint-4 could not be written.*whole'):
            run(settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert sorted(f.name for f in settings.out.iterdir() if f.is_dir()) == ['checkpoint-2', 'runs']
    monkeypatch.undo()
    assert run(settings, resume=True)['steps'] == 4
    assert [f.name for f in settings.out.glob('checkpoint-*')] == ['checkpoint-4']


def test_loss_that_is_no_number_leaves_its_batch(twin: Path, data: Path, tmp_path: Path) -> None:
    settings = stage(
        2, twin, data, tmp_path / 'out', optimiser={'learning_rate': 1e30, 'schedule': 'constant'}
    )
    with pytest.raises(NotFiniteError, match=r'bad-batch-\d-0\.safetensors'):
        run(settings)
    (file,) = settings.out.glob('bad-batch-*.safetensors')
    with safe_open(file, 'pt') as kept:
        assert {'input_ids', 'labels', 'attention_mask', 'pixel_values'} <= set(kept.keys())
        names = kept.metadata()['names'].split('\n')
        assert len(names) == len(kept.get_tensor('input_ids'))
        assert all(name.startswith('c') for name in names)
    assert not list(settings.out.glob('checkpoint-*'))


def test_sounds_of_every_width_and_damaged_ones(tmp_path: Path) -> None:
    from unifiedmllm_ros.training.media import read_sound, resampled

    for width in (2, 3, 4):
        sound, rate = read_sound(wav_bytes(width=width))
        assert rate == 16000
        assert abs(float(sound.max()) - 0.3) < 1e-3
    assert len(resampled(sound, 16000, 48000)) == 3 * len(sound)
    assert abs(float(resampled(sound, 16000, 48000)[2000:-2000].max()) - 0.3) < 1e-2
    with pytest.raises((ValueError, ImportError)):
        read_sound(b'RIFF....WAVE')
