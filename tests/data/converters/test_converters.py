"""Every public set, from a miniature in its published layout to conversations and counts."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from tests.data.converters.layouts import LAYOUTS, REFS, refcoco, write
from unifiedmllm_ros.cli import main
from unifiedmllm_ros.data.conversation import Conversation, read_conversations
from unifiedmllm_ros.data.converters.command import convert
from unifiedmllm_ros.data.converters.folder import ConversionError
from unifiedmllm_ros.data.converters.registry import PUBLIC_SETS
from unifiedmllm_ros.data.converters.report import Report
from unifiedmllm_ros.representation import Box, Region, Response, TaskCall, parse

DOG = Box(0.1, 0.1, 0.4, 0.5)  # pixels 20, 10 to 80, 50 of 200 x 100


def _convert(name: str, tmp_path: Path) -> tuple[list[Conversation], Report]:
    """Media checks included: the file stands above the set."""
    LAYOUTS[name](tmp_path / 'set')
    out = tmp_path / 'out.jsonl'
    report = convert(name, tmp_path / 'set', out)
    made = list(read_conversations(out, check_media=True))
    assert len(made) == report.conversations
    return made, report


def _answer(conversation: Conversation, turn: int = 0) -> Response:
    response, problems = parse(conversation.turns[2 * turn + 1].text)
    assert problems == ()
    return response


def test_every_set_has_a_miniature() -> None:
    assert set(LAYOUTS) == set(PUBLIC_SETS)


@pytest.mark.parametrize('name', PUBLIC_SETS)
def test_conversations_hold_up(name: str, tmp_path: Path) -> None:
    made, _ = _convert(name, tmp_path)
    assert made
    assert len({each.id for each in made}) == len(made)
    for each in made:
        assert each.kind == name or name.startswith('refcoco')
        for turn in range(len(each.turns) // 2):
            _answer(each, turn)


def test_llava_pretrain(tmp_path: Path) -> None:
    (made,), report = _convert('llava-pretrain', tmp_path)
    assert made.image == 'set/00453/004539375.jpg'
    assert made.turns[0].text == 'Render a summary.'
    assert _answer(made).text == 'a <b> & c'
    assert report.dropped == {'media file is missing below 00453': 1}


def test_llava_instruct_leaves_out_boxes_of_padded_squares(tmp_path: Path) -> None:
    (dog, joke), report = _convert('llava-instruct', tmp_path)
    assert [turn.text for turn in dog.turns] == ['What?', 'A dog.']
    assert joke.media() == {}
    assert report.dropped == {
        'exchange with a box as plain text': 1,
        'speakers do not alternate': 1,
        'field conversations is missing': 1,
    }


@pytest.mark.parametrize('name', ['refcoco', 'refcoco+', 'refcocog'])
def test_refcoco(name: str, tmp_path: Path) -> None:
    (first, second), report = _convert(name, tmp_path)
    assert _answer(first).regions == (Region('the left dog', (DOG,)),)
    assert _answer(second).regions == (Region('dog <box>', (DOG,)),)
    assert first.targets == {'annotation': 70, 'segmentation': [[20, 10, 80, 10, 80, 50]]}
    assert report.rows == 3
    assert report.dropped == {
        'box has no area inside the image': 1,
        'ref names an unknown annotation or image': 1,
    }


def test_refcoco_takes_another_split_and_an_export(tmp_path: Path) -> None:
    refcoco(tmp_path)
    (tmp_path / 'refs(unc).p').unlink()
    write(tmp_path / 'refs(unc).json', REFS)
    assert convert('refcoco', tmp_path, tmp_path / 'val.jsonl', 'val').conversations == 1
    with pytest.raises(ConversionError, match='no split'):
        convert('refcoco', tmp_path, tmp_path / 'x.jsonl', 'dev')


class _Crafted:
    """Unpickles as a call."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.mark,)  # type: ignore[return-value]


@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_crafted_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    refcoco(tmp_path)
    mark = tmp_path / 'ran'
    write(tmp_path / 'refs(unc).p', pickle.dumps([_Crafted(mark)], protocol=protocol))
    with pytest.raises(ConversionError, match='is refused: it asks for'):
        convert('refcoco', tmp_path, tmp_path / 'out.jsonl')
    assert not mark.exists()


def test_damaged_pickle_is_an_error(tmp_path: Path) -> None:
    refcoco(tmp_path)
    path = tmp_path / 'refs(unc).p'
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ConversionError, match=r'refs\(unc\).p: is'):
        convert('refcoco', tmp_path, tmp_path / 'out.jsonl')


def test_reasonseg(tmp_path: Path) -> None:
    (sentence, phrase), report = _convert('reasonseg', tmp_path)
    assert sentence.turns[0].text == 'what barks?'
    call = TaskCall('seg', regions=(Region('target', (DOG,)),))
    assert _answer(sentence).parts == ('A dog barks. ', call)
    assert _answer(phrase).regions == (Region('the caf\xe9', (DOG,)),)
    assert sentence.targets['polygons']['ignore'] == [[[0, 0], [5, 0], [5, 5]]]
    assert report.dropped == {
        'instruction is empty or no text': 1,
        'media file is missing below train': 1,
        'annotation file of the row is damaged': 1,
    }


def test_smartedit(tmp_path: Path) -> None:
    (made,), report = _convert('smartedit', tmp_path)
    assert made.image == 'set/images/0000_before.jpg'
    assert made.targets == {'edited': 'set/images/0000_after.jpg'}
    assert _answer(made).calls == (TaskCall('edit', 'make it night'),)
    assert report.dropped.total() == 1


def test_reason_edit(tmp_path: Path) -> None:
    (made,), report = _convert('reason-edit', tmp_path)
    assert made.id == 'reason-edit-4-Color/001'
    assert _answer(made).calls == (TaskCall('edit', 'Make the red cup blue.'),)
    assert made.targets == {'scene': '4-Color', 'clip': 'blue cup'}
    assert report.dropped == {'line has no instruction': 1, 'field image is missing': 1}


def test_instructpix2pix(tmp_path: Path) -> None:
    (made,), report = _convert('instructpix2pix', tmp_path)
    assert made.image == 'set/0001/5_0.jpg'
    assert made.targets['edited'] == 'set/0001/5_1.jpg'
    assert _answer(made).calls == (TaskCall('edit', 'add snow'),)
    assert report.dropped == {
        'image of a seed is missing': 1,
        'media file is missing below 0002': 1,
        'field folder is missing': 1,
    }


def test_nsr1k(tmp_path: Path) -> None:
    (spatial, numerical), report = _convert('nsr1k', tmp_path)
    regions = (Region('dog', (Box(0.1, 0.2, 0.4, 0.6),)), Region('cat', (Box(0.6, 0.2, 1, 0.6),)))
    assert _answer(spatial).calls == (TaskCall('layout', 'a dog left of a cat', regions),)
    dogs = Region('dog', (Box(0, 0, 0.5, 0.5), Box(0.5, 0.5, 1, 1)))
    assert _answer(numerical).calls == (TaskCall('layout', 'two dogs', (dogs,)),)
    assert report.dropped == {'box has no area inside the image': 1}


def test_nsr1k_training_leaves_out_prompts_of_validation(tmp_path: Path) -> None:
    LAYOUTS['nsr1k'](tmp_path)
    write(tmp_path / 'numerical.val.json', [{'id': 1, 'prompt': 'Two  dogs.'}])
    report = convert('nsr1k', tmp_path, tmp_path / 'out.jsonl')
    assert report.conversations == 1
    assert report.dropped['prompt occurs in the validation split'] == 1


def test_coco_captions_keep_a_prompt_without_its_image(tmp_path: Path) -> None:
    (dog, cat), report = _convert('coco-captions', tmp_path)
    assert _answer(dog).calls == (TaskCall('gen', 'A dog.'),)
    assert dog.targets == {'image': 'set/train2017/000000000009.jpg'}
    assert cat.targets == {}
    assert report.kept.total() == 1
    assert report.dropped == {'field caption is missing': 1}


def test_flickr30k_entities(tmp_path: Path) -> None:
    (made,), report = _convert('flickr30k-entities', tmp_path)
    men = Region('Two men', (DOG, Box(0.5, 0, 1, 1)))
    assert _answer(made).parts == (men, ' sit in a park .')
    assert report.dropped == {
        'caption without a grounded phrase': 1,
        'media file is missing below Sentences': 1,
    }


@pytest.mark.parametrize(
    ('name', 'task', 'modality', 'caption'),
    [
        ('wavcaps', 'audgen', 'audio', 'Wind blows.'),
        ('audiocaps', 'audgen', 'audio', 'A crowd cheers, then claps'),
        ('webvid', 'vidgen', 'video', 'Aerial shot of a city'),
        ('msr-vtt', 'vidgen', 'video', 'a car drives'),
    ],
)
def test_captions_go_both_ways(
    name: str, task: str, modality: str, caption: str, tmp_path: Path
) -> None:
    (described, made), report = _convert(name, tmp_path)
    medium = described.media()[modality]
    assert _answer(described).text == caption
    assert _answer(made).calls == (TaskCall(task, caption),)
    assert made.media() == {}
    assert made.targets == {modality: medium}
    assert report.dropped.total() == 1


def test_wavcaps_notes_sources_that_are_not_there(tmp_path: Path) -> None:
    assert _convert('wavcaps', tmp_path)[1].kept == {'source is not there': 3}


def test_clotho(tmp_path: Path) -> None:
    made, report = _convert('clotho', tmp_path)
    assert [_answer(each).text for each in made[::2]] == ['a', 'b', 'c, d', 'e']
    assert report.dropped == {
        'field caption_5 is empty': 1,
        'media file is missing below development': 1,
    }


def test_valley(tmp_path: Path) -> None:
    (made,), report = _convert('valley', tmp_path)
    assert made.video == 'set/videos/v1.mp4'
    assert [turn.text for turn in made.turns] == ['What happens?', 'A car stops.']
    assert report.dropped == {'row is about an image': 1}


def test_davis(tmp_path: Path) -> None:
    (bear, rock), report = _convert('davis', tmp_path)
    assert bear.video == 'set/JPEGImages/480p/bear'
    assert _answer(bear).calls == (TaskCall('vidseg', '', (Region('a brown bear', (DOG,)),)),)
    assert _answer(rock).regions == (Region('a rock', (Box(0.5, 0.6, 0.75, 0.8),)),)
    assert rock.targets == {'masks': 'set/Annotations/480p/bear', 'object': 2}
    assert report.dropped == {
        'expression in another form': 1,
        'object without an expression': 1,
        'media file is missing below JPEGImages/480p': 1,
    }


def test_command_prints_the_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    LAYOUTS['nsr1k'](tmp_path)
    out = tmp_path / 'out.jsonl'
    words = ['data', 'convert', 'nsr1k', '--source', str(tmp_path), '--out', str(out)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert 'nsr1k: 3 rows read, 2 conversations made' in printed
    assert 'left out 1: box has no area inside the image (first: spatial/spatial.train' in printed


def test_media_outside_the_folder_of_the_file(tmp_path: Path) -> None:
    LAYOUTS['llava-pretrain'](tmp_path / 'set')
    with pytest.raises(ConversionError, match='is not below'):
        convert('llava-pretrain', tmp_path / 'set', tmp_path / 'elsewhere' / 'out.jsonl')


def test_a_row_cannot_name_a_file_outside_the_set(tmp_path: Path) -> None:
    LAYOUTS['llava-pretrain'](tmp_path / 'set')
    write(tmp_path / 'secret.jpg', b'0')
    write(
        tmp_path / 'set/blip_laion_cc_sbu_558k.json',
        [{'id': '1', 'image': '../secret.jpg', 'conversations': []}],
    )
    with pytest.raises(ConversionError, match=r'(?s)nothing could be made.*media file is missing'):
        convert('llava-pretrain', tmp_path / 'set', tmp_path / 'out.jsonl')
    assert not (tmp_path / 'out.jsonl').exists()


def test_a_folder_without_the_set(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r'has no blip_laion_cc_sbu_558k\.json'):
        convert('llava-pretrain', tmp_path, tmp_path / 'out.jsonl')
    with pytest.raises(ConversionError, match='is no folder'):
        convert('llava-pretrain', tmp_path / 'none', tmp_path / 'out.jsonl')


def test_damaged_annotations_name_the_line(tmp_path: Path) -> None:
    write(tmp_path / 'blip_laion_cc_sbu_558k.json', '[\n{"id": ')
    with pytest.raises(ConversionError, match=r'558k.json, line 2'):
        convert('llava-pretrain', tmp_path, tmp_path / 'out.jsonl')
