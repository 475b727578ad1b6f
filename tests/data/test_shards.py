"""Shards: round trip, and every way one can be cut off or wrong."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from unifiedmllm_ros.cli import main
from unifiedmllm_ros.data.conversation import Conversation, Turn, write_conversations
from unifiedmllm_ros.data.shards import ShardError, read_shard, write_shards

TURNS = (Turn(role='user', text='what?'), Turn(role='assistant', text='a &lt;mug&gt;'))
GOOD = (
    '{"id": "a", "kind": "x", "turns": '
    '[{"role": "user", "text": "?"}, {"role": "assistant", "text": "!"}]'
)


def _set(root: Path, count: int = 4) -> list[Conversation]:
    (root / 'images').mkdir(parents=True)
    made = []
    for n in range(count):
        (root / f'images/{n}.jpg').write_bytes(bytes([n + 1]) * 700)
        made.append(Conversation(id=str(n), kind='x', image=f'images/{n}.jpg', turns=TURNS))
    return made + [Conversation(id='text', kind='x', turns=TURNS)]


def _tar(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, 'w') as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_round_trip(tmp_path: Path) -> None:
    conversations = _set(tmp_path)
    shards = write_shards(conversations, tmp_path, tmp_path / 'shards', limit=1400)
    assert [path.name for path in shards] == [f'shard-{n:06d}.tar' for n in range(3)]
    samples = [sample for shard in shards for sample in read_shard(shard)]
    assert [s.conversation.id for s in samples] == [c.id for c in conversations]
    assert [s.conversation.turns for s in samples] == [c.turns for c in conversations]
    assert samples[2].media == {'image': b'\x03' * 700}
    assert samples[4].media == {}


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_conversations(tmp_path / 'all.jsonl', _set(tmp_path))
    words = ['data', 'pack', '--source', str(tmp_path / 'all.jsonl'), '--out', str(tmp_path / 's')]
    assert main(words) == 0
    assert '1 shards' in capsys.readouterr().out
    assert len(list(read_shard(tmp_path / 's/shard-000000.tar'))) == 5


def test_shard_of_somebody_else(tmp_path: Path) -> None:
    text = (GOOD + ', "image": "7.left.jpg"}').encode()
    path = _tar(tmp_path / 'a.tar', ('dir/7.json', text), ('dir/7.left.jpg', b'1'))
    (sample,) = read_shard(path)
    assert sample.media == {'image': b'1'}


def test_cut_off_anywhere_names_file_and_byte(tmp_path: Path) -> None:
    """Whole samples before the cut are given, then comes the error, whatever the length."""
    (path,) = write_shards(_set(tmp_path), tmp_path, tmp_path / 'shards')
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        members = tar.getmembers()
        end = tar.offset  # where the end mark begins
    for length in (*range(1, end, 128), end, end + 511):
        path.write_bytes(whole[:length])
        with pytest.raises(ShardError) as caught:
            list(read_shard(path))
        assert str(path) in str(caught.value)
        if length >= 512:
            offset = next((m.offset for m in members if m.offset_data + m.size > length), end)
            assert f'at byte {offset}' in str(caught.value), (length, str(caught.value))


def test_damaged_header_in_the_middle_is_not_taken_for_the_end(tmp_path: Path) -> None:
    (path,) = write_shards(_set(tmp_path), tmp_path, tmp_path / 'shards')
    with tarfile.open(path) as tar:
        offset = tar.getmembers()[4].offset
    data = bytearray(path.read_bytes())
    data[offset + 10] ^= 0xFF
    path.write_bytes(data)
    samples = read_shard(path)
    assert next(samples).conversation.id == '0'
    with pytest.raises(ShardError, match=f'at byte {offset}'):
        list(samples)


@pytest.mark.parametrize(
    ('members', 'complaint'),
    [
        ([('1.jpg', b'1')], 'has 0 JSON members'),
        ([('1.json', b'{}'), ('1.b.json', b'{}')], 'has 2 JSON members'),
        ([('1.json', b'{"id": 3}')], 'sample 1 at byte 0, field id'),
        ([('1.json', (GOOD + ', "image": "1.jpg"}').encode())], 'has no member 1.jpg'),
        ([('1.jpg', b''), ('1.json', (GOOD + ', "image": "1.jpg"}').encode())], '1.jpg is empty'),
        (
            [('1.json', (GOOD + '}').encode()), ('2.json', (GOOD + '}').encode()), ('1.jpg', b'1')],
            'sample 1 at byte 2048: its members do not follow each other',
        ),
    ],
)
def test_bad_samples(tmp_path: Path, members: list[tuple[str, bytes]], complaint: str) -> None:
    with pytest.raises(ShardError) as caught:
        list(read_shard(_tar(tmp_path / 'a.tar', *members)))
    assert complaint in str(caught.value)


def test_links_are_refused(tmp_path: Path) -> None:
    path = tmp_path / 'a.tar'
    with tarfile.open(path, 'w') as tar:
        info = tarfile.TarInfo('1.jpg')
        info.type, info.linkname = tarfile.SYMTYPE, '/etc/hostname'
        tar.addfile(info)
    with pytest.raises(ShardError, match='is a link or device'):
        list(read_shard(path))


def test_no_tar_and_no_file(tmp_path: Path) -> None:
    (tmp_path / 'a.tar').write_bytes(b'no tar' * 500)
    for name in ('a.tar', 'gone.tar'):
        with pytest.raises(ShardError, match=name):
            list(read_shard(tmp_path / name))


def test_missing_medium_leaves_no_shard(tmp_path: Path) -> None:
    conversations = _set(tmp_path)
    (tmp_path / 'images/3.jpg').unlink()
    with pytest.raises(ShardError, match=r'3\.jpg: is no file \(image of 3\)'):
        write_shards(conversations, tmp_path, tmp_path / 'shards')
    assert list((tmp_path / 'shards').glob('*.tar')) == []
