"""Conversations on disk with random access: an index of JSONL files and of shards.

Everything is checked while it is indexed, so that a fault shows before the first step and not
after a night: each line must hold up, each medium must be there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

from pydantic import ValidationError

from unifiedmllm_ros.data.conversation import Conversation, ConversationError, read_conversations
from unifiedmllm_ros.data.shards import index_shard
from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor
from unifiedmllm_ros.training.media import Content

CHARACTERS = 3  # of a conversation's text that make a token, about


@dataclass(frozen=True)
class Entry:
    """Where a conversation is. span: offset and bytes of its line, empty for a shard's.

    tokens: about how many it has; media: in shards, modality -> (offset, bytes).
    """

    file: int
    tokens: int
    span: tuple[int, int] = (0, 0)
    media: dict[str, tuple[int, int]] = field(default_factory=dict)
    conversation: Conversation | None = None


class Source:
    """The conversations of one file or of some shards."""

    def __init__(self, path: str, root: Path, processor: UnifiedMLLMProcessor) -> None:
        """Index and check. Raises ConfigError, ConversationError, ShardError."""
        self.name = path
        self.files = _files(root / path)
        self._costs = _costs(processor)
        self.entries: list[Entry] = []
        for number, file in enumerate(self.files):
            lines = _lines(file) if file.suffix == '.jsonl' else _shard(file)
            for span, media, conversation in lines:
                tokens = self._tokens(conversation, file)
                kept = None if span[1] else conversation
                self.entries.append(Entry(number, tokens, span, media, kept))
        if not self.entries:
            raise ConfigError(f'{root / path}: holds no conversation: leave it out of data')

    def __len__(self) -> int:
        return len(self.entries)

    def read(self, index: int) -> tuple[Conversation, dict[str, Content], str]:
        """A conversation, its media (files, or bytes of a shard), and its place for messages."""
        entry = self.entries[index]
        file = self.files[entry.file]
        if entry.conversation is not None:
            media: dict[str, Content] = {}
            with file.open('rb') as shard:
                for name, (offset, size) in entry.media.items():
                    shard.seek(offset)
                    media[name] = shard.read(size)
            return entry.conversation, media, f'{file}, sample {entry.conversation.id}'
        offset, size = entry.span
        with file.open('rb') as lines:
            lines.seek(offset)
            line = lines.read(size)
        try:
            conversation = Conversation.model_validate_json(line)
        except ValidationError as error:
            raise ConversationError(f'{file}, byte {offset}: changed since it was read') from error
        paths: dict[str, Content] = {
            name: file.parent / path for name, path in conversation.media().items()
        }
        return conversation, paths, f'{file}, conversation {conversation.id}'

    def _tokens(self, conversation: Conversation, file: Path) -> int:
        for name in conversation.media():
            if name not in self._costs:
                raise ConfigError(
                    f'{file}, conversation {conversation.id}: has {name}, for which the model has '
                    'no branch; leave such conversations out'
                )
        characters = sum(len(turn.text) for turn in conversation.turns)
        return characters // CHARACTERS + sum(self._costs[name] for name in conversation.media())


def _costs(processor: UnifiedMLLMProcessor) -> dict[str, int]:
    """About how many tokens a medium takes, for those that the model has branches for."""
    config = processor.config
    costs = {'image': config.visual_tokens, 'video': config.video_tokens}
    costs['audio'] = config.audio_tokens
    return {name: cost for name, cost in costs.items() if cost}


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(path.glob('*.tar'))
    else:
        found = [Path(name) for name in sorted(glob(str(path)))]
    if not found:
        raise ConfigError(
            f'{path}: there is no such file: give a .jsonl file, or a folder or glob of .tar '
            'shards (below --data-root)'
        )
    wrong = [file for file in found if file.suffix not in ('.jsonl', '.tar')]
    if wrong:
        raise ConfigError(f'{wrong[0]}: is neither .jsonl nor .tar')
    return found


Found = tuple[tuple[int, int], dict[str, tuple[int, int]], Conversation]


def _lines(file: Path) -> Iterator[Found]:
    conversations = read_conversations(file, check_media=True)
    with file.open('rb') as lines:
        while line := lines.readline():
            if line.strip():
                yield (lines.tell() - len(line), len(line)), {}, next(conversations)


def _shard(file: Path) -> Iterator[Found]:
    for entry in index_shard(file):
        yield (0, 0), entry.media, entry.conversation
