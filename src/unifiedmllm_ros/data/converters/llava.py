"""LLaVA-Pretrain (558k captions) and LLaVA-Instruct (150k, or the 665k mixture of LLaVA-1.5).

Liu et al., Visual Instruction Tuning, NeurIPS 2023. The mixture holds exchanges whose answer is a
box as plain text, relative to a padded square: those are left out and counted, refCOCO brings the
same in our format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from unifiedmllm_ros.data.conversation import Conversation
from unifiedmllm_ros.data.converters.folder import SetFolder
from unifiedmllm_ros.data.converters.public_set import PublicSet
from unifiedmllm_ros.data.converters.rows import Rejected, Row
from unifiedmllm_ros.data.converters.wording import Exchange, conversation

_COORDINATES = re.compile(r'\[\s*[01]?\.\d+(\s*,\s*[01]?\.\d+){3}\s*\]')
_SPEAKERS = {'human': 0, 'user': 0, 'gpt': 1, 'assistant': 1}


def exchanges(row: Row, folder: SetFolder, placeholder: str) -> list[Exchange]:
    """The (question, answer) pairs of a `conversations` list, `placeholder` taken out.

    Raises Rejected where speakers do not alternate or no pair is left.
    """
    turns = [Row.of(row.where, turn) for turn in row.array('conversations')]
    if any(_SPEAKERS.get(turn.text('from')) != n % 2 for n, turn in enumerate(turns)):
        raise Rejected('speakers do not alternate')
    if len(turns) % 2:
        raise Rejected('last question has no answer')
    pairs: list[Exchange] = []
    for asked, said in zip(turns[::2], turns[1::2], strict=True):
        question = asked.text('value').replace(placeholder, '').strip()
        answer = said.text('value')
        if _COORDINATES.search(question) or _COORDINATES.search(answer):
            folder.report.drop('exchange with a box as plain text', row.where)
        elif not question:
            folder.report.drop('exchange without a question', row.where)
        else:
            pairs.append((question, [answer]))
    if not pairs:
        raise Rejected('no exchange is left')
    return pairs


def _pretrain_rows(folder: SetFolder) -> Iterator[Row]:
    return folder.json_rows(folder.find('blip_laion_cc_sbu_558k.json'))


def _instruct_rows(folder: SetFolder) -> Iterator[Row]:
    return folder.json_rows(folder.find('llava_v1_5_mix665k.json', 'llava_instruct_150k.json'))


def _pretrain(folder: SetFolder, row: Row) -> Iterator[Conversation]:
    yield _build(folder, row, 'llava-pretrain')


def _instruct(folder: SetFolder, row: Row) -> Iterator[Conversation]:
    yield _build(folder, row, 'llava-instruct')


def _build(folder: SetFolder, row: Row, kind: str) -> Conversation:
    """A row without `image` is a conversation of text alone (ShareGPT, in the mixture)."""
    media: dict[str, str] = {}
    if 'image' in row.fields:
        image = row.text('image')
        found = (image, f'images/{image}', f'train2017/{image}', f'coco/train2017/{image}')
        media['image'] = folder.medium(*found)[1]
    pairs = exchanges(row, folder, '<image>')
    return conversation(f'{kind}-{row.key("id")}', kind, pairs, media)


LLAVA_PRETRAIN = PublicSet(
    'llava-pretrain',
    'LLaVA-Pretrain 558k',
    'image captions',
    'as of CC-3M, and BLIP for synthetic captions',
    'huggingface.co/datasets/liuhaotian/LLaVA-Pretrain',
    'blip_laion_cc_sbu_558k.json, images (00000/...) beside it or in images/',
    _pretrain_rows,
    _pretrain,
)
LLAVA_INSTRUCT = PublicSet(
    'llava-instruct',
    'LLaVA-Instruct 150k / 665k mixture',
    'dialogues about an image, text alone',
    'CC BY 4.0; subject to the terms of OpenAI',
    'huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K',
    'llava_v1_5_mix665k.json or llava_instruct_150k.json; coco/train2017/, gqa/images/, '
    'ocr_vqa/images/, textvqa/train_images/, vg/VG_100K(_2)/',
    _instruct_rows,
    _instruct,
)
