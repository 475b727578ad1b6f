"""InstructPix2Pix: image edits by instruction (Brooks et al., CVPR 2023).

`seeds.json` lists [folder, [seed, ...]]; a folder holds prompt.json ({input, edit, output}) and,
for each seed, SEED_0.jpg before and SEED_1.jpg after the edit.
"""

from __future__ import annotations

from collections.abc import Iterator

from unifiedmllm_ros.data.conversation import Conversation
from unifiedmllm_ros.data.converters.folder import ConversionError, SetFolder
from unifiedmllm_ros.data.converters.public_set import PublicSet
from unifiedmllm_ros.data.converters.rows import Rejected, Row
from unifiedmllm_ros.data.converters.wording import conversation
from unifiedmllm_ros.representation import TaskCall


def _rows(folder: SetFolder) -> Iterator[Row]:
    path = folder.find('seeds.json')
    listed = folder.read_json(path)
    if not isinstance(listed, list):
        raise ConversionError(f'{path}: holds no list of [folder, [seed, ...]]')
    for number, item in enumerate(listed):
        fields = dict(zip(('folder', 'seeds'), item, strict=False)) if _is_pair(item) else {}
        yield Row(folder.place(path, number), fields)


def _is_pair(item: object) -> bool:
    return isinstance(item, list) and len(item) == 2


def _build(folder: SetFolder, row: Row) -> Iterator[Conversation]:
    name = row.text('folder')
    prompt_file = folder.medium(f'{name}/prompt.json')[0]
    prompt = Row.of(row.where, folder.row_json(prompt_file))
    edit = prompt.text('edit')
    for seed in row.array('seeds'):
        try:
            before, after = (folder.medium(f'{name}/{seed}_{n}.jpg')[1] for n in (0, 1))
        except Rejected:
            folder.report.drop('image of a seed is missing', f'{row.where}, seed {seed}')
            continue
        targets = {'edited': after} | {
            key: prompt.text(key) for key in ('input', 'output') if key in prompt.fields
        }
        pair = (edit, [TaskCall('edit', edit)])
        id = f'instructpix2pix-{name}-{seed}'
        yield conversation(id, 'instructpix2pix', [pair], {'image': before}, targets)


INSTRUCTPIX2PIX = PublicSet(
    'instructpix2pix',
    'InstructPix2Pix',
    'image edits',
    'MIT for the repository, none stated for the data (made with GPT-3 and Stable Diffusion)',
    'github.com/timothybrooks/instruct-pix2pix',
    'seeds.json; FOLDER/prompt.json, FOLDER/SEED_0.jpg, FOLDER/SEED_1.jpg',
    _rows,
    _build,
)
