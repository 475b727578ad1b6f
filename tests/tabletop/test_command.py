"""`unifiedmllm data tabletop` from the command line's arguments to the conversations."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tests.tabletop.conftest import SMALL_WORLD
from unifiedmllm_ros.data.conversation import read_conversations
from unifiedmllm_ros.errors import ConfigError, MissingExtraError
from unifiedmllm_ros.tabletop import assets, command
from unifiedmllm_ros.tabletop.dataset import DatasetRequest, write_dataset
from unifiedmllm_ros.tabletop.sampling import Wanted


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.usefixtures('renderable')
def test_scenes_become_conversations(tmp_path: Path) -> None:
    # The small world is begun here, so that the command has nothing left to render.
    words = ['--count', '3', '--split', 'test', '--width', '160', '--height', '120']
    args = arguments(*words, '--out', str(tmp_path), '--questions', '5')
    request = DatasetRequest(tmp_path, 3, Wanted('test'), 160, 120, SMALL_WORLD[:5])
    write_dataset(request)
    (tmp_path / 'dataset.json').unlink()
    assert command.run(args) == 0
    written = list(read_conversations(tmp_path / 'conversations.jsonl', check_media=True))
    assert written
    assert all(1 <= len(list(talk.exchanges())) <= 5 for talk in written)
    talks = [talk for talk in written if '-dialogue-' in talk.id]
    assert len(talks) == 2 * 3
    assert all(len(list(talk.exchanges())) == 3 for talk in talks)
    assert not any('<regedit>' in turn.text for t in written if t not in talks for turn in t.turns)
    again = list(command.conversations(tmp_path / 'scenes.jsonl', 5, 0, 2))
    assert again == written
    assert list(command.conversations(tmp_path / 'scenes.jsonl', 5, 1, 2)) != written


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (('--count', '0', '--split', 'test'), '--count is 0'),
        (('--count', '1', '--split', 'test', '--workers', '-1'), '--workers is -1'),
        (('--count', '1', '--split', 'test', '--width', '4000'), 'too large'),
        (('--count', '1', '--split', 'test', '--dialogues', '-1'), '--dialogues is -1'),
        (('--count', '1', '--split', 'test', '--seed', '-2'), '--seed is -2'),
        (('--count', '1', '--split', 'train', '--held-out'), 'never for training'),
    ],
)
def test_impossible_arguments_are_named(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    args = arguments(*words, '--out', str(tmp_path / 'none'))
    with pytest.raises(ConfigError, match=message):
        command.run(args)
    assert not (tmp_path / 'none').exists()


def test_missing_object_models_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, 'ASSET_PACKAGE', 'no_such_assets')
    with pytest.raises(MissingExtraError, match=r'unifiedmllm_ros\[tabletop\]'):
        assets.asset_root()
