"""Pictures with boxes, whatever their source."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from unifiedmllm_ros.data.conversation import Conversation, Turn, write_conversations
from unifiedmllm_ros.data.grounding import (
    GroundingError,
    from_boxes,
    from_conversations,
    from_scenes,
)
from unifiedmllm_ros.tabletop.lexicon import default_lexicon
from unifiedmllm_ros.tabletop.symbolic import sample_scene


def test_scenes_give_what_can_be_seen_with_all_its_names(tmp_path: Path) -> None:
    scenes = [sample_scene(Random(n), default_lexicon()) for n in range(5)]
    path = tmp_path / 'scenes.jsonl'
    lines = [json.dumps({**s.to_json(), 'image': f'{n}.jpg'}) for n, s in enumerate(scenes)]
    path.write_text('\n'.join(lines) + '\n')
    found = list(from_scenes(path))
    assert [image.image for image in found] == [f'{n}.jpg' for n in range(5)]
    for scene, image in zip(scenes, found, strict=True):
        assert len(image.things) == sum(map(scene.referable, scene.objects))
        assert image.scene is not None
        assert all(thing.phrase in thing.names for thing in image.things)


def test_conversations_give_their_boxes_but_not_what_is_imagined(tmp_path: Path) -> None:
    box, other = (
        '<box>[0.100, 0.100, 0.200, 0.200]</box>',
        '<box>[0.500, 0.500, 0.600, 0.600]</box>',
    )
    answers = (
        f'<p>dog</p>{box}',
        f'<seg><p>dog</p>{box}<p>cats</p>{other}{box}</seg>',
        f'<layout>a cow<p>cow</p>{box}</layout>',
        f'<regedit>add a hat<p>hat</p>{other}</regedit>',
    )
    turns = tuple(
        Turn(role=role, text=text)
        for answer in answers
        for role, text in (('user', 'and?'), ('assistant', answer))
    )
    path = tmp_path / 'a.jsonl'
    image = Conversation(id='1', kind='x', image='a.jpg', turns=turns)
    write_conversations(path, [image, Conversation(id='2', kind='x', turns=turns)])
    (found,) = from_conversations(path)
    assert [(t.phrase, t.box[0]) for t in found.things] == [
        ('dog', 0.1),
        ('cats', 0.5),
        ('cats', 0.1),
    ]


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('{"image": "a.jpg"}', 'things'),
        ('{"image": "/a.jpg", "things": []}', 'image'),
        ('{"image": "a.jpg", "things": [{"phrase": "a", "box": [0.2, 0, 0.1, 1]}]}', 'no area'),
        ('{"image": "a.jpg", "things": [{"phrase": "a", "box": [0, 0, 1.1, 1]}]}', 'things.0.box'),
        ('{"image": "a.jpg", "things": [{"phrase": "<p>", "box": [0, 0, 1, 1]}]}', 'plain words'),
        ('{"image": ', 'line 2'),
    ],
)
def test_what_does_not_hold_up_is_named_with_its_line(
    tmp_path: Path, line: str, message: str
) -> None:
    path = tmp_path / 'boxes.jsonl'
    path.write_text('{"image": "a.jpg", "things": []}\n' + line + '\n')
    with pytest.raises(GroundingError, match=message) as caught:
        list(from_boxes(path))
    assert 'line 2' in str(caught.value)
    with pytest.raises(GroundingError, match='cannot be read'):
        list(from_boxes(tmp_path / 'none.jsonl'))
