"""WavCaps, AudioCaps and Clotho: captions of sounds, and the same captions as prompts for sounds.

WavCaps (Mei et al., 2023): json_files/SOURCE/*_final.json, {data: [{id, caption, ...}]}, waveforms
SOURCE_flac/ID.flac. AudioCaps (Kim et al., 2019): SPLIT.csv with audiocap_id, youtube_id,
start_time, caption; its sounds come from YouTube, everyone names them as he likes, so the usual
names are tried. Clotho (Drossos et al., 2020): clotho_captions_SPLIT.csv with file_name and
caption_1 to caption_5, sounds in SPLIT/.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from unifiedmllm_ros.data.conversation import Conversation
from unifiedmllm_ros.data.converters.folder import SetFolder
from unifiedmllm_ros.data.converters.public_set import PublicSet
from unifiedmllm_ros.data.converters.rows import Row
from unifiedmllm_ros.data.converters.wording import (
    CAPTION_AUDIO,
    MAKE_SOUND,
    conversation,
    pick,
)
from unifiedmllm_ros.representation import TaskCall

_GIVES = 'sound captions, sounds to be made'
_WAVCAPS = {
    'AudioSet_SL': 'as_final.json',
    'BBC_Sound_Effects': 'bbc_final.json',
    'FreeSound': 'fsd_final.json',
    'SoundBible': 'sb_final.json',
}


def _both(id: str, kind: str, caption: str, sound: str) -> Iterator[Conversation]:
    """The caption of the sound, and a call that makes it."""
    asked = pick(CAPTION_AUDIO, id)
    yield conversation(f'{id}-caption', kind, [(asked, [caption])], {'audio': sound})
    pair = (pick(MAKE_SOUND, id).format(caption), [TaskCall('audgen', caption)])
    yield conversation(f'{id}-make', kind, [pair], targets={'audio': sound})


def _wavcaps_rows(folder: SetFolder) -> Iterator[Row]:
    folder.find('json_files')
    for source, file in _WAVCAPS.items():
        if not folder.has(f'json_files/{source}/{file}'):
            folder.report.note('source is not there', f'json_files/{source}/{file}')
            continue
        path = folder.find(f'json_files/{source}/{file}')
        for row in folder.json_rows(path, 'data'):
            yield Row(row.where, {**row.fields, 'source': source})


def _wavcaps(folder: SetFolder, row: Row) -> Iterator[Conversation]:
    """Ids of AudioSet end in .wav; the published waveforms are FLAC."""
    source, stem = row.text('source'), row.key('id').removesuffix('.wav')
    names = [
        f'{place}{source}{end}/{stem}.flac' for place in ('', 'audio/') for end in ('_flac', '')
    ]
    sound = folder.medium(*names)[1]
    yield from _both(f'wavcaps-{source}-{stem}', 'wavcaps', row.text('caption'), sound)


def _audiocaps_rows(folder: SetFolder) -> Iterator[Row]:
    return folder.csv_rows(folder.find(f'{folder.split}.csv', f'dataset/{folder.split}.csv'))


def _audiocaps(folder: SetFolder, row: Row) -> Iterator[Conversation]:
    id, video, start = (row.text(name) for name in ('audiocap_id', 'youtube_id', 'start_time'))
    stems = (id, video, f'Y{video}', f'{video}_{start}')
    places = (f'audio/{folder.split}', folder.split, 'audio')
    names = [f'{p}/{s}.{end}' for p in places for s in stems for end in ('wav', 'flac', 'mp3')]
    caption = row.text('caption')
    yield from _both(f'audiocaps-{id}', 'audiocaps', caption, folder.medium(*names)[1])


def _clotho_rows(folder: SetFolder) -> Iterator[Row]:
    name = f'clotho_captions_{folder.split}.csv'
    return folder.csv_rows(folder.find(name, f'clotho_csv_files/{name}'))


def _clotho(folder: SetFolder, row: Row) -> Iterator[Conversation]:
    file = row.text('file_name')
    places = (folder.split, f'clotho_audio_{folder.split}', f'clotho_audio_files/{folder.split}')
    sound = folder.medium(*(f'{place}/{file}' for place in places))[1]
    for number in range(1, 6):
        id = f'clotho-{folder.split}-{Path(file).stem}-{number}'
        yield from _both(id, 'clotho', row.text(f'caption_{number}'), sound)


WAVCAPS = PublicSet(
    'wavcaps',
    'WavCaps',
    _GIVES,
    'academic use only (FreeSound, BBC, SoundBible and AudioSet terms apply)',
    'huggingface.co/datasets/cvssp/WavCaps',
    'json_files/SOURCE/*_final.json; SOURCE_flac/ (AudioSet_SL, BBC_Sound_Effects, FreeSound, '
    'SoundBible)',
    _wavcaps_rows,
    _wavcaps,
)
AUDIOCAPS = PublicSet(
    'audiocaps',
    'AudioCaps',
    _GIVES,
    'academic purposes only; sounds under the terms of YouTube',
    'github.com/cdjkim/audiocaps',
    '{split}.csv; audio/{split}/ named by audiocap_id, youtube_id or youtube_id_start',
    _audiocaps_rows,
    _audiocaps,
    ('train', 'val', 'test'),
)
CLOTHO = PublicSet(
    'clotho',
    'Clotho v2.1',
    _GIVES,
    'captions: own licence, non-commercial with attribution; sounds: Creative Commons',
    'zenodo.org/records/4783391',
    'clotho_captions_{split}.csv; {split}/',
    _clotho_rows,
    _clotho,
    ('development', 'validation', 'evaluation'),
)
