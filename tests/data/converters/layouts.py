"""Miniatures of the public sets, in the layout that each is published in."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def write(path: Path, value: Any) -> Path:
    """A file: text as it is, bytes as they are, anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(value, bytes):
        path.write_bytes(value)
    else:
        path.write_text(value if isinstance(value, str) else json.dumps(value), encoding='utf-8')
    return path


def picture(path: Path, width: int = 200, height: int = 100) -> Path:
    """A black image in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.zeros((height, width, 3), np.uint8))
    return path


def _said(question: str, answer: str) -> list[dict[str, str]]:
    return [{'from': 'human', 'value': question}, {'from': 'gpt', 'value': answer}]


def llava_pretrain(root: Path) -> None:
    picture(root / '00453/004539375.jpg')
    rows = [
        {
            'id': '004539375',
            'image': '00453/004539375.jpg',
            'conversations': _said('Render a summary.\n<image>', 'a <b> & c'),
        },
        {'id': '1', 'image': '00453/gone.jpg', 'conversations': _said('<image>\nWhat?', 'x')},
    ]
    write(root / 'blip_laion_cc_sbu_558k.json', rows)


def llava_instruct(root: Path) -> None:
    picture(root / 'coco/train2017/000000000009.jpg')
    image = 'coco/train2017/000000000009.jpg'
    box = _said('Give the box of the dog.', '[0.1, 0.20, 0.3, 0.44]')
    rows = [
        {'id': 'a', 'image': image, 'conversations': _said('<image>\nWhat?', 'A dog.') + box},
        {'id': 'text', 'conversations': _said('Tell a joke.', 'No.')},
        {'id': 'b', 'image': image, 'conversations': _said('<image>\nWhat?', 'x')[::-1]},
        {'id': 'c', 'image': image},
    ]
    write(root / 'llava_v1_5_mix665k.json', rows)


INSTANCES = {
    'images': [
        {'id': 7, 'file_name': 'COCO_train2014_000000000007.jpg', 'width': 200, 'height': 100}
    ],
    'annotations': [
        {'id': 70, 'bbox': [20, 10, 60, 40], 'segmentation': [[20, 10, 80, 10, 80, 50]]},
        {'id': 71, 'bbox': [20, 10, 0, 40]},
    ],
}


def _ref(id: int, annotation: int, split: str, *sentences: str) -> dict[str, Any]:
    said = [{'sent': s, 'sent_id': 10 * id + n, 'raw': s} for n, s in enumerate(sentences)]
    return {'ref_id': id, 'ann_id': annotation, 'image_id': 7, 'split': split, 'sentences': said}


REFS = [
    _ref(1, 70, 'train', 'the left dog', 'dog <box>'),
    _ref(2, 71, 'train', 'thin thing'),
    _ref(3, 99, 'train', 'nothing'),
    _ref(4, 70, 'val', 'another'),
]


def refcoco(root: Path, split_by: str = 'unc') -> None:
    picture(root / 'images/mscoco/images/train2014/COCO_train2014_000000000007.jpg')
    write(root / 'instances.json', INSTANCES)
    write(root / f'refs({split_by}).p', pickle.dumps(REFS, protocol=0))


def refcocog(root: Path) -> None:
    refcoco(root, 'umd')


def reasonseg(root: Path) -> None:
    picture(root / 'train/1_a.jpg')
    shapes = [
        {'label': 'target', 'points': [[20, 10], [80, 10], [80, 50]]},
        {'label': 'Ignore', 'points': [[0, 0], [5, 0], [5, 5]]},
        {'label': 'flag', 'points': [[0, 0]]},
    ]
    query = {'text': ['what barks?', ' '], 'is_sentence': True, 'shapes': shapes}
    write(root / 'train/1_a.json', query)
    picture(root / 'train/2_b.jpg')
    write(root / 'train/2_b.json', {**query, 'text': ['the caf\xe9'], 'is_sentence': False})
    raw = (root / 'train/2_b.json').read_text().replace('\\u00e9', '\xe9')
    (root / 'train/2_b.json').write_bytes(raw.encode('cp1252'))
    write(root / 'train/3_c.json', query)
    write(root / 'train/4_d.json', '{"text": [')
    explained = [{'image': '1_a.jpg', 'query': 'what barks?', 'outputs': 'A dog barks.'}]
    write(root / 'explanatory/train.json', explained)


def smartedit(root: Path) -> None:
    for name in ('0000', '0001'):
        picture(root / f'images/{name}_before.jpg')
    picture(root / 'images/0000_after.jpg')
    value = {
        name: {
            'origin_img_path': f'./dataset/images/{name}_before.jpg',
            'target_img_path': f'./dataset/images/{name}_after.jpg',
            'instruction': ['make it night'],
        }
        for name in ('0000', '0001')
    }
    write(root / 'synthetic.json', value)


def reason_edit(root: Path) -> None:
    picture(root / '4-Color/001.png')
    picture(root / '4-Color/002.png')
    lines = 'Make the red cup blue. CLIP: blue cup\nCLIP: nothing\nOne line too many CLIP: x\n'
    write(root / '4-Color/Color_text.txt', lines)


def instructpix2pix(root: Path) -> None:
    write(root / 'seeds.json', [['0001', [5, 6]], ['0002', [1]], 'broken'])
    write(
        root / '0001/prompt.json', {'input': 'a hill', 'edit': 'add snow', 'output': 'a white hill'}
    )
    for name in ('5_0', '5_1', '6_0'):
        picture(root / f'0001/{name}.jpg')


def nsr1k(root: Path) -> None:
    spatial = {
        'id': 1,
        'prompt': 'a dog left of a cat',
        'obj1': ['dog', [0.1, 0.2, 0.3, 0.4]],
        'obj2': ['cat', [0.6, 0.2, 0.4, 0.4]],
        'relation': 'left',
        'type': 'template',
    }
    empty = {**spatial, 'id': 2, 'obj2': ['cat', [0, 0, 0, 0]]}
    write(root / 'spatial/spatial.train.json', [spatial, empty])
    numerical = {
        'id': 1,
        'prompt': 'two dogs',
        'num_object': [['dog', 2]],
        'object_list': [['dog', [0, 0, 0.5, 0.5]], ['dog', [0.5, 0.5, 0.5, 0.5]]],
    }
    write(root / 'counting/counting.train.json', [numerical])


def coco_captions(root: Path) -> None:
    picture(root / 'train2017/000000000009.jpg')
    images = [{'id': n, 'file_name': f'{n:012d}.jpg'} for n in (9, 10)]
    captions = [
        {'id': 1, 'image_id': 9, 'caption': 'A dog.\n'},
        {'id': 2, 'image_id': 10, 'caption': 'A cat.'},
        {'id': 3, 'image_id': 9},
    ]
    value = {'images': images, 'annotations': captions}
    write(root / 'annotations/captions_train2017.json', value)


ENTITIES = """<annotation><filename>36979.jpg</filename>
<size><width>200</width><height>100</height><depth>3</depth></size>
<object><name>5</name><bndbox><xmin>21</xmin><ymin>11</ymin><xmax>80</xmax><ymax>50</ymax></bndbox>
</object><object><name>6</name><scene>1</scene><nobndbox>0</nobndbox></object>
<object><name>5</name><bndbox><xmin>101</xmin><ymin>1</ymin><xmax>200</xmax><ymax>100</ymax></bndbox>
</object></annotation>"""


def flickr30k_entities(root: Path) -> None:
    write(root / 'train.txt', '36979\n404\n')
    picture(root / 'flickr30k-images/36979.jpg')
    lines = '[/EN#5/people/other Two men] sit in [/EN#6/scene a park] .\n[/EN#6/scene A park] .\n'
    write(root / 'Sentences/36979.txt', lines)
    write(root / 'Annotations/36979.xml', ENTITIES)


def wavcaps(root: Path) -> None:
    write(root / 'AudioSet_SL_flac/Yb0RFKhbpFJA.flac', b'fLaC')
    rows = [
        {'id': 'Yb0RFKhbpFJA.wav', 'caption': 'Wind blows.', 'audio': 'wav_path', 'duration': 10.0},
        {'id': 'gone.wav', 'caption': 'Nothing.'},
    ]
    value = {'num_captions_per_audio': 1, 'data': rows}
    write(root / 'json_files/AudioSet_SL/as_final.json', value)


def audiocaps(root: Path) -> None:
    write(root / 'audio/train/rqfQRErjfk8_170.wav', b'RIFF')
    text = (
        'audiocap_id,youtube_id,start_time,caption\n'
        '91139,rqfQRErjfk8,170,"A crowd cheers, then claps"\n91140,gone,1,Rain\n'
    )
    write(root / 'train.csv', text)


def clotho(root: Path) -> None:
    write(root / 'development/Distorted AM Radio noise.wav', b'RIFF')
    captions = ','.join(f'caption_{n}' for n in range(1, 6))
    lines = (
        f'file_name,{captions}\nDistorted AM Radio noise.wav,a,b,"c, d",e,\ngone.wav,a,b,c,d,e\n'
    )
    write(root / 'clotho_captions_development.csv', lines)


def webvid(root: Path) -> None:
    write(root / 'videos/000001_000050/21179416.mp4', b'0')
    lines = (
        'videoid,contentUrl,duration,page_dir,name\n'
        '21179416,https://x/y.mp4,PT00H00M11S,000001_000050,Aerial shot of a city\n'
        '5,https://x/z.mp4,PT00H00M11S,000001_000050,\n'
    )
    write(root / 'results_2M_train.csv', lines)


def msr_vtt(root: Path) -> None:
    write(root / 'TrainValVideo/video0.mp4', b'0')
    videos = [{'video_id': f'video{n}', 'split': s} for n, s in enumerate(('train', 'validate'))]
    sentences = [
        {'caption': 'a car drives', 'video_id': 'video0', 'sen_id': 0},
        {'caption': 'another', 'video_id': 'video1', 'sen_id': 1},
        {'caption': 'whose?', 'sen_id': 2},
    ]
    write(root / 'train_val_videodatainfo.json', {'videos': videos, 'sentences': sentences})


def valley(root: Path) -> None:
    write(root / 'videos/v1.mp4', b'0')
    rows = [
        {
            'id': 1,
            'video': 'v1.mp4',
            'conversations': _said('<video>\nWhat happens?', 'A car stops.'),
        },
        {'id': 2, 'image': 'a.jpg', 'conversations': _said('<image>\nWhat?', 'x')},
    ]
    write(root / 'valley_instruct.json', rows)


def davis(root: Path) -> None:
    write(root / 'ImageSets/2017/train.txt', 'bear\nbike\n')
    write(
        root / 'davis_text_annotations/Davis17_annot1.txt',
        'bear 1 "a brown bear"\nbear 9\nbear 2 "a rock"\n',
    )
    picture(root / 'JPEGImages/480p/bear/00000.jpg')
    mask = np.zeros((100, 200, 3), np.uint8)  # blue, green, red
    mask[10:50, 20:80] = (0, 0, 128)
    mask[60:80, 100:150] = (0, 128, 0)
    mask[90:, 190:] = (0, 128, 128)
    path = root / 'Annotations/480p/bear/00000.png'
    path.parent.mkdir(parents=True)
    cv2.imwrite(str(path), mask)


LAYOUTS: dict[str, Callable[[Path], None]] = {
    'llava-pretrain': llava_pretrain,
    'llava-instruct': llava_instruct,
    'refcoco': refcoco,
    'refcoco+': refcoco,
    'refcocog': refcocog,
    'reasonseg': reasonseg,
    'smartedit': smartedit,
    'reason-edit': reason_edit,
    'instructpix2pix': instructpix2pix,
    'nsr1k': nsr1k,
    'coco-captions': coco_captions,
    'flickr30k-entities': flickr30k_entities,
    'wavcaps': wavcaps,
    'audiocaps': audiocaps,
    'clotho': clotho,
    'webvid': webvid,
    'msr-vtt': msr_vtt,
    'valley': valley,
    'davis': davis,
}
