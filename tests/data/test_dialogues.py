"""Dialogues are written, checked, resumed, deduplicated and split; servers are scripted."""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pytest

from tests.runtime.remote.server import Handler, Server, Step, fails
from unifiedmllm_ros.cancellation import never
from unifiedmllm_ros.data import dialogues_command
from unifiedmllm_ros.data.conversation import read_conversations
from unifiedmllm_ros.data.converters.report import Report
from unifiedmllm_ros.data.dialogues import BuildError, Prices, Progress, Request, build, splits
from unifiedmllm_ros.data.grounding import GroundedImage, Thing, from_boxes, write_boxes
from unifiedmllm_ros.data.remote_writer import Pace, RemoteWriter, messages, read_turns
from unifiedmllm_ros.data.template_writer import TemplateWriter
from unifiedmllm_ros.errors import Cancelled, ConfigError
from unifiedmllm_ros.runtime.remote.description import RemoteDescription

DOG = Thing(phrase='dog', box=(0.1, 0.4, 0.3, 0.7))
CAR = Thing(phrase='blue car', box=(0.7, 0.5, 0.95, 0.8))
DOG_BOX, CAR_BOX = (
    '<box>[0.100, 0.400, 0.300, 0.700]</box>',
    '<box>[0.700, 0.500, 0.950, 0.800]</box>',
)


def picture(folder: Path, name: str, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 9, 3), dtype=np.uint8)
    large = cv2.resize(pixels, (90, 80), interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(folder / name), large)


@pytest.fixture
def images(tmp_path: Path) -> list[GroundedImage]:
    for number in range(4):
        picture(tmp_path, f'{number}.png', number)
    return [GroundedImage(image=f'{n}.png', things=(DOG, CAR)) for n in range(4)]


def request(folder: Path, **fields: object) -> Request:
    return Request(**{'folder': folder, 'root': folder, 'each': 1, **fields})  # type: ignore[arg-type]


def turns(*pairs: tuple[str, str]) -> str:
    return json.dumps({'turns': [{'user': a, 'assistant': b} for a, b in pairs]})


GOOD = turns(
    ('find the dog', f'<p>dog</p>{DOG_BOX}'),
    ('make it red', f'<regedit>paint the dog red<p>dog</p>{DOG_BOX}</regedit>'),
    ('and the car?', f'<regedit>paint the car red<p>car</p>{CAR_BOX}</regedit>'),
)


def writes(*texts: str) -> Step:
    """A step that gives one text after the other, with the tokens used; the last is repeated."""
    lock, left = threading.Lock(), list(texts)

    def step(handler: Handler) -> None:
        with lock:
            text = left.pop(0) if len(left) > 1 else left[0]
        handler.open_stream()
        handler.say(text, 'stop')
        usage = {'choices': [], 'usage': {'prompt_tokens': 1000, 'completion_tokens': 100}}
        handler.wfile.write(b'data: ' + json.dumps(usage).encode() + b'\n\ndata: [DONE]\n\n')

    return step


@pytest.fixture
def remote() -> Iterator[list[Server]]:
    opened: list[Server] = []
    yield opened
    for server in opened:
        server.__exit__()


def served(
    opened: list[Server], *steps: Step, concurrency: int = 2, **fields: object
) -> RemoteWriter:
    server = Server(*steps).__enter__()
    opened.append(server)
    description = RemoteDescription(
        kind='remote', url=server.url, retries=0, concurrency=concurrency
    )
    writer = RemoteWriter(description)
    assert writer.check(never) == 'vlm'
    return writer


def test_templates_need_no_network_and_pass_the_checks(
    tmp_path: Path, images: list[GroundedImage]
) -> None:
    report = build(request(tmp_path, each=25), images, TemplateWriter())
    assert report.rows == 100
    assert report.conversations > 85
    assert set(report.dropped) <= {'near-duplicate', 'neither a box nor a task'}
    talks = list(read_conversations(tmp_path / 'dialogues.train.jsonl', check_media=True))
    assert {call for t in talks for turn in t.turns for call in ('<seg>', '<vidseg>', '<regedit>')
            if call in turn.text} == {'<seg>', '<vidseg>', '<regedit>'}  # fmt: skip


def test_of_pictures_with_boxes_alone_only_the_named_is_asked(images: list[GroundedImage]) -> None:
    writer = TemplateWriter()
    for seed in range(150):
        written = writer.write(images[0], Random(seed), 3, 'train', never)
        text = ' '.join(answer for _, answer in written.exchanges)
        assert 'There is no' not in text
        assert 'There are' not in text
        assert '<p>object</p>' not in text


def test_a_server_writes_and_its_tokens_are_counted(
    tmp_path: Path, images: list[GroundedImage], remote: list[Server]
) -> None:
    seen: list[Progress] = []
    writer = served(remote, writes(GOOD))
    told: list[float] = []

    def note(progress: Progress) -> None:
        seen.append(progress)
        told.append(progress.cost)

    report = build(request(tmp_path), images, writer, Prices(2.0, 10.0), note)
    assert report.conversations == 4
    assert seen[-1].read == 4000
    assert told[-1] == pytest.approx(4 * (1000 * 2 + 100 * 10) / 1e6)
    (talk, *_) = read_conversations(tmp_path / 'dialogues.train.jsonl')
    assert talk.targets['writer'] == 'vlm'
    assert [turn.text for turn in talk.turns[:2]] == ['find the dog', f'<p>dog</p>{DOG_BOX}']
    sent = remote[0].requests[0][2]
    assert DOG_BOX in sent['messages'][1]['content']
    assert sent['stream_options'] == {'include_usage': True}


REJECTED = {
    'box does not exist': turns(
        ('find the dog', '<p>dog</p><box>[0.100, 0.400, 0.300, 0.900]</box>'), ('thanks', 'Fine.')
    ),
    'phrase does not name its box': turns(('a', f'<p>cat</p>{DOG_BOX}'), ('thanks', 'Fine.')),
    'answer does not parse': turns(('a', f'<seg><p>dog</p>{DOG_BOX}'), ('thanks', 'Fine.')),
    'added on top of something': turns(
        ('a', f'<regedit>add a hat<p>hat</p>{DOG_BOX}</regedit>'), ('thanks', 'Fine.')
    ),
    'too few turns': turns(('find the dog', f'<p>dog</p>{DOG_BOX}')),
    'marker in a question': turns(('find <p>', f'<p>dog</p>{DOG_BOX}'), ('thanks', 'Fine.')),
    'neither a box nor a task': turns(('hello', 'Hello!'), ('thanks', 'Fine.')),
    'empty answer': turns(('hello', ' '), ('thanks', 'Fine.')),
    'no JSON': 'I can not do that.',
    'JSON ends early': '{"turns": [{"user": "a", "assistant": "b"}',
    'a turn lacks user or assistant': '{"turns": [{"user": "a"}]}',
}


@pytest.mark.parametrize(('reason', 'text'), REJECTED.items(), ids=REJECTED.keys())
def test_what_does_not_hold_up_is_rejected_by_reason(
    tmp_path: Path, images: list[GroundedImage], remote: list[Server], reason: str, text: str
) -> None:
    report = build(request(tmp_path), images[:1], served(remote, writes(text)))
    assert report.conversations == 0
    assert [name for name in report.dropped if name.startswith(reason)]
    # It is asked once more, and what was answered is paid for.
    assert len(remote[0].requests) == 2
    entry = json.loads((tmp_path / 'dialogues.journal.jsonl').read_text())
    assert (entry['read'], entry['wrote']) == (2000, 200)


def test_a_second_answer_may_be_good(
    tmp_path: Path, images: list[GroundedImage], remote: list[Server]
) -> None:
    report = build(request(tmp_path), images[:1], served(remote, writes('no', GOOD)))
    assert report.conversations == 1
    assert report.kept['no JSON'] == 1
    assert not report.dropped


def test_an_added_thing_can_be_asked_for_afterwards(
    tmp_path: Path, images: list[GroundedImage], remote: list[Server]
) -> None:
    box, cat = (f'<box>[0.{n}00, 0.400, 0.600, 0.700]</box>' for n in (4, 1))
    text = turns(
        ('put a hat next to the dog', f'<regedit>add a hat<p>hat</p>{box}</regedit>'),
        ('segment what you just added', f'<seg><p>hat</p>{box}</seg>'),
        ('draw a cat', f'<layout>a cat<p>cat</p>{cat}</layout>'),
    )
    assert build(request(tmp_path), images[:1], served(remote, writes(text))).conversations == 1


def test_a_run_goes_on_where_it_stopped_and_pays_once(
    tmp_path: Path, images: list[GroundedImage], remote: list[Server]
) -> None:
    writer = served(remote, writes(GOOD), writes(GOOD), fails(401), concurrency=1)
    with pytest.raises(BuildError, match='run the same command again'):
        build(request(tmp_path), images, writer)
    journal = tmp_path / 'dialogues.journal.jsonl'
    done = journal.read_text().splitlines()
    assert 1 <= len(done) <= 2
    # A line that a crash cut short is written anew.
    journal.write_text('\n'.join(done) + '\n' + done[0][:20])
    again = served(remote, writes(GOOD))
    report = build(request(tmp_path), images, again)
    assert report.conversations == 4
    assert len(remote[1].requests) == 4 - len(done)
    assert not (tmp_path / 'dialogues.train.jsonl.part').exists()


def test_a_passing_failure_is_no_answer_and_is_asked_again_next_time(
    tmp_path: Path, images: list[GroundedImage], remote: list[Server]
) -> None:
    first = served(remote, fails(503), writes(GOOD), concurrency=1)
    report = build(request(tmp_path), images, first)
    assert report.dropped['no answer of the server'] == 1
    assert build(request(tmp_path), images, served(remote, writes(GOOD))).conversations == 4


def test_a_spent_budget_ends_the_run(
    tmp_path: Path, images: list[GroundedImage], remote: list[Server]
) -> None:
    writer = served(remote, writes(GOOD), concurrency=1)
    with pytest.raises(BuildError, match='--budget'):
        build(request(tmp_path), images, writer, Prices(1.0, 0.0, 0.001))
    assert build(request(tmp_path), images, writer, Prices(1.0, 0.0, 1.0)).conversations == 4


def test_a_stop_keeps_the_journal(tmp_path: Path, images: list[GroundedImage]) -> None:
    stop = threading.Event()
    with pytest.raises(Cancelled):
        build(
            request(tmp_path, each=50), images, TemplateWriter(), None, lambda _: stop.set(), stop
        )
    assert (tmp_path / 'dialogues.journal.jsonl').read_text()
    assert not (tmp_path / 'dialogues.train.jsonl').exists()


def test_near_duplicates_of_a_picture_are_dropped(
    tmp_path: Path, images: list[GroundedImage], remote: list[Server]
) -> None:
    report = build(request(tmp_path, each=3), images[:2], served(remote, writes(GOOD)))
    # The same words about another picture are no duplicate.
    assert report.conversations == 2
    assert report.dropped['near-duplicate'] == 4


def test_splits_are_by_picture_and_keep_near_duplicates_together(tmp_path: Path) -> None:
    for number in range(60):
        picture(tmp_path, f'{number}.png', number)
        near = cv2.imread(str(tmp_path / f'{number}.png'))
        cv2.imwrite(str(tmp_path / f'{number}.jpg'), near, [cv2.IMWRITE_JPEG_QUALITY, 80])
    names = [f'{n}.{ext}' for n in range(60) for ext in ('png', 'jpg')]
    listed = [GroundedImage(image=name, things=(DOG,)) for name in names]
    asked = request(tmp_path, shares=(0.3, 0.3))
    found = splits(asked, listed, Report('x'))
    assert set(found.values()) == {'train', 'val', 'test'}
    assert all(found[f'{n}.png'] == found[f'{n}.jpg'] for n in range(60))
    build(asked, listed, TemplateWriter())
    for split in ('train', 'val', 'test'):
        for talk in read_conversations(tmp_path / f'dialogues.{split}.jsonl'):
            assert talk.image is not None
            assert found[talk.image] == split


def test_a_missing_picture_and_one_listed_twice_are_counted(
    tmp_path: Path, images: list[GroundedImage]
) -> None:
    gone = GroundedImage(image='gone.png', things=(DOG,))
    report = build(request(tmp_path), [*images, gone, images[0]], TemplateWriter())
    assert report.dropped['picture cannot be read'] == 1
    assert report.dropped['picture is listed twice'] == 1
    assert report.rows == 6


def test_another_request_in_the_same_folder_is_refused(
    tmp_path: Path, images: list[GroundedImage]
) -> None:
    build(request(tmp_path), images, TemplateWriter())
    with pytest.raises(ConfigError, match='seed'):
        build(request(tmp_path, seed=1), images, TemplateWriter())
    with pytest.raises(ConfigError, match='folder above'):
        build(request(tmp_path / 'below', root=tmp_path), images, TemplateWriter())


def test_pace_spreads_requests_and_can_be_left() -> None:
    pace = Pace(60)
    pace.wait(never)
    with pytest.raises(Cancelled):
        pace.wait(lambda: True)
    assert Pace(0).wait(never) is None


def test_the_request_names_tasks_and_boxes_and_turns_are_found_in_prose() -> None:
    image = GroundedImage(image='a.png', things=(DOG,))
    system, user = messages(image, Random(0), 4)
    assert 'regedit: ' in system['content']
    assert f'<p>dog</p>{DOG_BOX}' in user['content']
    assert 'Write 4 turns' in user['content']
    exchanges, reason = read_turns(f'Sure!\n```json\n{GOOD}\n```')
    assert not reason
    assert len(exchanges) == 3


def test_the_command_builds_from_boxes(
    tmp_path: Path, images: list[GroundedImage], capsys: pytest.CaptureFixture[str]
) -> None:
    write_boxes(tmp_path / 'boxes.jsonl', images)
    assert list(from_boxes(tmp_path / 'boxes.jsonl')) == images
    parser = argparse.ArgumentParser()
    dialogues_command.add_dialogue_arguments(parser)
    words = ['--boxes', str(tmp_path / 'boxes.jsonl'), '--out', str(tmp_path), '--each', '2']
    assert dialogues_command.run_dialogues(parser.parse_args(words)) == 0
    assert '8 rows read' in capsys.readouterr().out
    for bad, message in (('--each', '--each is 0'), ('--rate', '--rate is -1')):
        value = '0' if bad == '--each' else '-1'
        with pytest.raises(ConfigError, match=message):
            dialogues_command.run_dialogues(parser.parse_args([*words, bad, value]))
