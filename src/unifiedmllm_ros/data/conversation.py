"""The one format of training and evaluation conversations: JSON Lines, one conversation a line.

    {"id": "tabletop-000001", "kind": "tabletop", "image": "images/000001.jpg",
     "turns": [{"role": "user", "text": "find the mug"},
               {"role": "assistant", "text": "<p>red mug</p><box>[0.412, ...]</box>"}],
     "targets": {"mask": "masks/000001.png"}}

Media are named by paths relative to the file's folder. An assistant's text is the unified
representation and is parsed on reading; a user's text is plain text, whatever stands in it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from unifiedmllm_ros.errors import UnifiedMLLMError
from unifiedmllm_ros.representation import parse

MEDIA = ('image', 'video', 'audio')


class ConversationError(UnifiedMLLMError):
    """A conversation that does not hold up; the message names file, line and field."""

    code = 'invalid_conversation'


class Turn(BaseModel):
    """What one side says."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    role: Literal['user', 'assistant']
    text: str

    @model_validator(mode='after')
    def _answers_parse(self) -> Turn:
        if self.role == 'assistant':
            _, problems = parse(self.text)
            if problems:
                raise ValueError(f'the answer does not parse: {problems[0].message}')
        return self


class Conversation(BaseModel):
    """Turns about at most one image, video and sound each.

    `kind` names the task or the set that it belongs to; `targets` holds what training or
    evaluation needs beside the text (mask files, object indices, ...).
    """

    model_config = ConfigDict(extra='forbid', frozen=True)

    id: str = Field(min_length=1)
    kind: str = Field(min_length=1)
    image: str | None = None
    video: str | None = None
    audio: str | None = None
    turns: tuple[Turn, ...] = Field(min_length=2)
    targets: dict[str, Any] = Field(default_factory=dict)

    @field_validator(*MEDIA)
    @classmethod
    def _relative(cls, value: str | None) -> str | None:
        if value is None:
            return None
        path = PurePosixPath(value)
        if not value or path.is_absolute() or '..' in path.parts or '\\' in value:
            raise ValueError(f'{value!r} must be a path below the folder of the file')
        return value

    @field_validator('turns')
    @classmethod
    def _alternating(cls, turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
        for number, turn in enumerate(turns):
            expected = 'assistant' if number % 2 else 'user'
            if turn.role != expected:
                raise ValueError(f'turn {number} is of {turn.role!r}, not of {expected!r}')
        if len(turns) % 2:
            raise ValueError('the last question has no answer')
        return turns

    def exchanges(self) -> Iterator[tuple[str, str]]:
        """Yield (question, answer) in order."""
        for question, answer in zip(self.turns[::2], self.turns[1::2], strict=True):
            yield question.text, answer.text

    def media(self) -> dict[str, str]:
        """The media that are named: modality -> relative path."""
        return {name: path for name in MEDIA if (path := getattr(self, name)) is not None}


def read_conversations(path: str | Path, *, check_media: bool = False) -> Iterator[Conversation]:
    """Yield the conversations of a JSONL file, blank lines skipped.

    With `check_media`, every named file must exist. Raises ConversationError at the first line
    that does not hold up, naming file, line and field.
    """
    path = Path(path)
    try:
        with open(path, encoding='utf-8') as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _read(
                        line, f'{path}, line {number}', path.parent if check_media else None
                    )
    except OSError as error:
        raise ConversationError(f'{path}: cannot be read: {error.strerror}') from error
    except UnicodeDecodeError as error:
        raise ConversationError(f'{path}: is not UTF-8 text: {error.reason}') from error


def write_conversations(path: str | Path, conversations: Iterable[Conversation]) -> int:
    """Write a JSONL file and return the number of lines.

    The file appears under its name only when it is complete.
    """
    path, count = Path(path), 0
    partial = path.with_name(f'{path.name}.part')
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(partial, 'w', encoding='utf-8') as lines:
        for conversation in conversations:
            lines.write(to_line(conversation))
            count += 1
    os.replace(partial, path)
    return count


def to_line(conversation: Conversation) -> str:
    """The conversation as one line of JSON, empty fields left out, with its newline."""
    value = conversation.model_dump(mode='json', exclude_none=True)
    if not value['targets']:
        del value['targets']
    return json.dumps(value, ensure_ascii=False) + '\n'


def _read(line: str, place: str, folder: Path | None) -> Conversation:
    try:
        conversation = Conversation.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        field = '.'.join(str(part) for part in first['loc']) or 'the line'
        raise ConversationError(f'{place}, field {field}: {first["msg"]}') from error
    for field, media in conversation.media().items() if folder else ():
        if folder and not _is_medium(field, folder / media):
            raise ConversationError(f'{place}, field {field}: there is no file {folder / media}')
    return conversation


def _is_medium(field: str, path: Path) -> bool:
    """A video may be a folder of frames."""
    return path.is_file() or (field == 'video' and path.is_dir())
