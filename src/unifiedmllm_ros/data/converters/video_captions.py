"""WebVid, MSR-VTT and Valley: captions of videos and dialogues about them; prompts for videos.

WebVid (Bain et al., 2021): results_2M_SPLIT.csv with videoid, page_dir, name (the caption), videos
in videos/PAGE_DIR/VIDEOID.mp4. MSR-VTT (Xu et al., 2016): *_videodatainfo.json with `videos`
(video_id, split) and `sentences` (video_id, sen_id, caption). Valley (Luo et al., 2023): a JSON
list in LLaVA's form with `video` in the place of `image`.
"""

from __future__ import annotations

from collections.abc import Iterator

from unifiedmllm_ros.data.conversation import Conversation
from unifiedmllm_ros.data.converters.folder import SetFolder
from unifiedmllm_ros.data.converters.llava import exchanges
from unifiedmllm_ros.data.converters.public_set import PublicSet
from unifiedmllm_ros.data.converters.rows import Rejected, Row, identity
from unifiedmllm_ros.data.converters.wording import (
    CAPTION_VIDEO,
    MAKE_VIDEO,
    conversation,
    pick,
)
from unifiedmllm_ros.representation import TaskCall

_GIVES = 'video captions, videos to be made'


def _both(id: str, kind: str, caption: str, video: str) -> Iterator[Conversation]:
    """The caption of the video, and a call that makes it."""
    asked = pick(CAPTION_VIDEO, id)
    yield conversation(f'{id}-caption', kind, [(asked, [caption])], {'video': video})
    pair = (pick(MAKE_VIDEO, id).format(caption), [TaskCall('vidgen', caption)])
    yield conversation(f'{id}-make', kind, [pair], targets={'video': video})


def _webvid_rows(folder: SetFolder) -> Iterator[Row]:
    names = (f'results_{size}_{folder.split}.csv' for size in ('2M', '10M'))
    return folder.csv_rows(folder.find(*names))


def _webvid(folder: SetFolder, row: Row) -> Iterator[Conversation]:
    id, caption = row.text('videoid'), row.text('name')
    page = str(row.fields.get('page_dir') or '').strip()
    video = folder.medium(*([f'videos/{page}/{id}.mp4'] if page else []), f'videos/{id}.mp4')[1]
    yield from _both(f'webvid-{id}', 'webvid', caption, video)


def _msrvtt_rows(folder: SetFolder) -> Iterator[Row]:
    part = 'test' if folder.split == 'test' else 'train_val'
    path = folder.find(f'{part}_videodatainfo.json', f'annotation/{part}_videodatainfo.json')
    chosen = {
        identity(row.fields.get('video_id'))
        for row in folder.json_rows(path, 'videos')
        if row.fields.get('split') == folder.split
    }
    for row in folder.json_rows(path, 'sentences'):
        if (video := identity(row.fields.get('video_id'))) in chosen and video:
            yield row
        elif video is None:
            folder.report.drop('field video_id is missing', row.where)


def _msrvtt(folder: SetFolder, row: Row) -> Iterator[Conversation]:
    video, id = row.text('video_id'), f'msr-vtt-{row.key("sen_id")}'
    places = ('TestVideo',) if folder.split == 'test' else ('TrainValVideo',)
    path = folder.medium(*(f'{place}/{video}.mp4' for place in (*places, 'videos/all')))[1]
    yield from _both(id, 'msr-vtt', row.text('caption'), path)


def _valley_rows(folder: SetFolder) -> Iterator[Row]:
    return folder.json_rows(folder.find('*.json'))


def _valley(folder: SetFolder, row: Row) -> Iterator[Conversation]:
    """A pretraining row names its video by number, an instruction row by file."""
    if 'image' in row.fields and 'video' not in row.fields:
        raise Rejected('row is about an image')
    named = row.text('video')
    video = folder.medium(named, f'videos/{named}', f'{row.fields.get("source")}/{named}')[1]
    pairs = exchanges(row, folder, '<video>')
    yield conversation(f'valley-{row.key("id")}', 'valley', pairs, {'video': video})


WEBVID = PublicSet(
    'webvid',
    'WebVid-2M / -10M',
    _GIVES,
    'non-commercial research; its authors no longer distribute it',
    'github.com/m-bain/webvid',
    'results_2M_{split}.csv; videos/PAGE_DIR/VIDEOID.mp4',
    _webvid_rows,
    _webvid,
    ('train', 'val'),
)
MSR_VTT = PublicSet(
    'msr-vtt',
    'MSR-VTT',
    _GIVES,
    'none stated',
    'microsoft.com/en-us/research/publication/'
    'msr-vtt-a-large-video-description-dataset-for-bridging-video-and-language',
    'train_val_videodatainfo.json, TrainValVideo/; test_videodatainfo.json, TestVideo/',
    _msrvtt_rows,
    _msrvtt,
    ('train', 'validate', 'test'),
)
VALLEY = PublicSet(
    'valley',
    'Valley (pretraining captions, instructions)',
    'dialogues about a video',
    'CC BY-NC 4.0',
    'github.com/RupertLuo/Valley',
    'one JSON file; the videos under the names it gives, or in videos/ or SOURCE/',
    _valley_rows,
    _valley,
)
