"""The conversation format: round trip, and errors that name file, line and field."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from unifiedmllm_ros.data.conversation import (
    Conversation,
    ConversationError,
    Turn,
    read_conversations,
    to_line,
    write_conversations,
)
from unifiedmllm_ros.tabletop.conversations import questions_to_conversation
from unifiedmllm_ros.tabletop.lexicon import default_lexicon
from unifiedmllm_ros.tabletop.questions import questions
from unifiedmllm_ros.tabletop.symbolic import sample_scene

GOOD: dict[str, Any] = {
    'id': 'a',
    'kind': 'tabletop',
    'image': 'images/a.jpg',
    'turns': [
        {'role': 'user', 'text': 'find the <box> mug'},
        {'role': 'assistant', 'text': '<p>mug</p><box>[0.100, 0.200, 0.300, 0.400]</box>'},
    ],
}


def _write(path: Path, *values: object) -> Path:
    path.write_text('\n'.join(v if isinstance(v, str) else json.dumps(v) for v in values))
    return path


def _changed(**change: object) -> dict[str, Any]:
    return {**GOOD, **change}


def _answered(text: str) -> list[dict[str, str]]:
    return [GOOD['turns'][0], {'role': 'assistant', 'text': text}]


def test_tabletop_questions_round_trip(tmp_path: Path) -> None:
    rng, made = Random(1), []
    for _ in range(5):
        scene = sample_scene(rng, default_lexicon())
        made.append(questions_to_conversation(scene, questions(scene, rng)))
    path = tmp_path / 'deep' / 'train.jsonl'
    assert write_conversations(path, made) == 5
    assert list(read_conversations(path)) == made
    assert [p.name for p in path.parent.iterdir()] == ['train.jsonl']


def test_exchanges_and_media() -> None:
    conversation = Conversation.model_validate(GOOD)
    assert [question for question, _ in conversation.exchanges()] == ['find the <box> mug']
    assert conversation.media() == {'image': 'images/a.jpg'}
    assert 'targets' not in json.loads(to_line(conversation))


@pytest.mark.parametrize(
    ('value', 'field'),
    [
        (_changed(image='/etc/passwd'), 'image'),
        (_changed(video='../up.mp4'), 'video'),
        (_changed(audio=''), 'audio'),
        (_changed(id=''), 'id'),
        (_changed(colour='red'), 'colour'),
        (_changed(turns=GOOD['turns'][:1]), 'turns'),
        (_changed(turns=GOOD['turns'] * 2 + GOOD['turns'][:1]), 'turns'),
        (_changed(turns=GOOD['turns'][::-1]), 'turns'),
        (_changed(turns=_answered('<p>mug</p><box>[0.3, 0.2, 0.1, 0.4]</box>')), 'turns.1'),
        (_changed(turns=_answered('<seg><p>mug</p>')), 'turns.1'),
        (_changed(turns=[{'role': 'system', 'text': 'x'}, GOOD['turns'][1]]), 'turns.0.role'),
        ({k: v for k, v in GOOD.items() if k != 'kind'}, 'kind'),
        ('{"id": "a"', 'the line'),
        ('[]', 'the line'),
    ],
)
def test_errors_name_file_line_and_field(tmp_path: Path, value: object, field: str) -> None:
    path = _write(tmp_path / 'set.jsonl', GOOD, '', value)
    with pytest.raises(ConversationError) as caught:
        list(read_conversations(path))
    assert f'set.jsonl, line 3, field {field}' in str(caught.value)


def test_lines_before_a_bad_one_are_read(tmp_path: Path) -> None:
    reader = read_conversations(_write(tmp_path / 'set.jsonl', GOOD, '{'))
    assert next(reader).id == 'a'
    with pytest.raises(ConversationError):
        next(reader)


def test_missing_media_are_named_on_demand(tmp_path: Path) -> None:
    path = _write(tmp_path / 'set.jsonl', GOOD)
    assert len(list(read_conversations(path))) == 1
    with pytest.raises(ConversationError, match=r'line 1, field image: .*a\.jpg'):
        list(read_conversations(path, check_media=True))
    (tmp_path / 'images').mkdir()
    (tmp_path / 'images' / 'a.jpg').write_bytes(b'x')
    assert len(list(read_conversations(path, check_media=True))) == 1


def test_unreadable_files_are_clear(tmp_path: Path) -> None:
    with pytest.raises(ConversationError, match=r'none\.jsonl'):
        list(read_conversations(tmp_path / 'none.jsonl'))
    (tmp_path / 'bytes.jsonl').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(ConversationError, match='UTF-8'):
        list(read_conversations(tmp_path / 'bytes.jsonl'))


def test_a_failing_source_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / 'set.jsonl'
    write_conversations(path, [Conversation.model_validate(GOOD)])

    def failing() -> Any:
        yield Conversation.model_validate({**GOOD, 'id': 'b'})
        raise OSError('disk full')

    with pytest.raises(OSError, match='disk full'):
        write_conversations(path, failing())
    assert [c.id for c in read_conversations(path)] == ['a']


def test_wrong_turns_do_not_build() -> None:
    with pytest.raises(ValueError, match='does not parse'):
        Turn(role='assistant', text='<p>mug</p>')
