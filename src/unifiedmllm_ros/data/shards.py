"""Conversations in shards: tar files that hold media beside their conversations.

The layout is WebDataset's: members of one sample follow each other and share what stands before
the first dot of their name (`000017.json`, `000017.jpg`). The JSON member is a conversation, whose
`image`, `video` and `audio` name members of its sample. Shards are read from front to back.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from unifiedmllm_ros.data.conversation import Conversation, to_line
from unifiedmllm_ros.errors import UnifiedMLLMError


class ShardError(UnifiedMLLMError):
    """A shard that is cut off or does not hold up; names the file, and the byte or the sample."""

    code = 'invalid_shard'


@dataclass(frozen=True)
class ShardSample:
    """A conversation and the bytes of the media it names: modality -> content of the file."""

    conversation: Conversation
    media: dict[str, bytes]


@dataclass(frozen=True)
class ShardEntry:
    """Where a sample lies in its shard: modality -> (offset, bytes) of its media."""

    conversation: Conversation
    media: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class _Member:
    """A file of the shard: its header's place, its content's place and bytes, and the content
    where it was read."""

    name: str
    offset: int
    start: int
    size: int
    data: bytes

    @property
    def key(self) -> str:
        path = PurePosixPath(self.name)
        return str(path.with_name(path.name.split('.')[0]))


def read_shard(path: Path) -> Iterator[ShardSample]:
    """Yield the samples of a shard. Raises ShardError at the first that does not hold up."""
    for conversation, media in _samples(path, media=True):
        yield ShardSample(conversation, {name: member.data for name, member in media.items()})


def index_shard(path: Path) -> Iterator[ShardEntry]:
    """Yield where the samples of a shard lie; media are not read. Raises as `read_shard`."""
    for conversation, media in _samples(path, media=False):
        places = {name: (member.start, member.size) for name, member in media.items()}
        yield ShardEntry(conversation, places)


def _samples(path: Path, media: bool) -> Iterator[tuple[Conversation, dict[str, _Member]]]:
    seen: set[str] = set()
    for key, group in groupby(_members(path, media), key=lambda member: member.key):
        members = list(group)
        place = f'{path}, sample {key} at byte {members[0].offset}'
        if key in seen:
            raise ShardError(f'{place}: its members do not follow each other, or it is there twice')
        seen.add(key)
        yield _sample(place, {PurePosixPath(m.name).name: m for m in members})


def _members(path: Path, media: bool) -> Iterator[_Member]:
    """The files of a tar file, with checks that the reader of Python does not make.

    It takes a damaged header, and an end without the closing block of zeros, for the end.
    """
    try:
        length = path.stat().st_size
        with tarfile.open(path, 'r:') as tar:
            while (member := _next(path, tar)) is not None:
                if member.offset_data + member.size > length:
                    raise _cut_off(path, member.offset, f'{member.name} is not whole')
                if member.isfile():
                    content = tar.extractfile(member)
                    assert content is not None  # a regular file has a content
                    wanted = media or member.name.endswith('.json')
                    yield _Member(
                        member.name,
                        member.offset,
                        member.offset_data,
                        member.size,
                        content.read() if wanted else b'',
                    )
                elif not member.isdir():
                    raise ShardError(f'{path}: {member.name} is a link or device: pack files only')
            end = tar.offset
        _check_end(path, end)
    except (OSError, tarfile.TarError) as error:
        raise ShardError(f'{path}: cannot be read as a tar file: {error}') from error


def _next(path: Path, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    offset = tar.offset
    try:
        return tar.next()
    except tarfile.ReadError as error:
        raise _cut_off(path, offset, str(error)) from error


def _check_end(path: Path, offset: int) -> None:
    """Where the members end there must be a block of zeros."""
    with open(path, 'rb') as file:
        file.seek(offset)
        block = file.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE or any(block):
        raise _cut_off(path, offset, 'neither a header nor the end mark')


def _cut_off(path: Path, offset: int, what: str) -> ShardError:
    return ShardError(f'{path}: is cut off or damaged at byte {offset}: {what}; fetch it anew')


def _sample(place: str, files: dict[str, _Member]) -> tuple[Conversation, dict[str, _Member]]:
    texts = [member.data for name, member in files.items() if name.endswith('.json')]
    if len(texts) != 1:
        raise ShardError(f'{place}: has {len(texts)} JSON members, not one')
    try:
        conversation = Conversation.model_validate_json(texts[0])
    except ValidationError as error:
        first = error.errors()[0]
        field = '.'.join(str(part) for part in first['loc']) or 'the value'
        raise ShardError(f'{place}, field {field}: {first["msg"]}') from error
    media = {}
    for modality, name in conversation.media().items():
        if name not in files:
            raise ShardError(f'{place}, field {modality}: the sample has no member {name}')
        if not files[name].size:
            raise ShardError(f'{place}, field {modality}: {name} is empty')
        media[modality] = files[name]
    return conversation, media


def write_shards(
    conversations: Iterable[Conversation], media_root: Path, out: Path, limit: int = 256 << 20
) -> list[Path]:
    """Pack conversations with their media into out/shard-000000.tar, ...; returns the files.

    A shard is closed when it has reached `limit` bytes of media. Files that `targets` name stay
    where they are. Raises ShardError for a medium that is missing or a folder of frames; a shard
    appears under its name only when it is whole.
    """
    out.mkdir(parents=True, exist_ok=True)
    shards: list[Path] = []
    rest = iter(enumerate(conversations))
    while (first := next(rest, None)) is not None:
        path = out / f'shard-{len(shards):06d}.tar'
        partial = path.with_name(f'{path.name}.part')
        with tarfile.open(partial, 'w:') as tar:
            size = _pack(tar, first, media_root)
            while size < limit and (item := next(rest, None)) is not None:
                size += _pack(tar, item, media_root)
        partial.replace(path)
        shards.append(path)
    return shards


def _pack(tar: tarfile.TarFile, item: tuple[int, Conversation], media_root: Path) -> int:
    """Add one sample; returns the bytes of its media."""
    number, conversation = item
    names, size = {}, 0
    for modality, named in conversation.media().items():
        path = media_root / named
        if not path.is_file():
            raise ShardError(
                f'{path}: is no file ({modality} of {conversation.id}): cannot be packed'
            )
        data = path.read_bytes()
        names[modality] = f'{number:09d}.{modality}{path.suffix}'
        _add(tar, names[modality], data)
        size += len(data)
    renamed = conversation.model_copy(update=names)
    _add(tar, f'{number:09d}.json', to_line(renamed).encode())
    return size


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
