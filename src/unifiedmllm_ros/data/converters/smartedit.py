"""SmartEdit's synthetic training pairs and its benchmark Reason-Edit.

Huang et al., SmartEdit, CVPR 2024. Training: a JSON object '0000', '0001', ... of
{origin_img_path, target_img_path, instruction: [...]}. Benchmark: a folder for each kind
(1-Left-Right, 2-Relative-Size, ...), with images and one text file whose n-th line,
`instruction CLIP: words`, belongs to the n-th image by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from unifiedmllm_ros.data.conversation import Conversation
from unifiedmllm_ros.data.converters.folder import ConversionError, SetFolder
from unifiedmllm_ros.data.converters.public_set import PublicSet
from unifiedmllm_ros.data.converters.rows import Rejected, Row
from unifiedmllm_ros.data.converters.wording import conversation
from unifiedmllm_ros.representation import TaskCall


def _training_rows(folder: SetFolder) -> Iterator[Row]:
    path = folder.find('*.json', '*/*.json')
    value = folder.read_json(path)
    if not isinstance(value, dict):
        raise ConversionError(f"{path}: is no object with the keys '0000', '0001', ...")
    for key, item in value.items():
        row = Row.of(folder.place(path, key), item)
        yield Row(row.where, {**row.fields, 'key': key})


def _training(folder: SetFolder, row: Row) -> Iterator[Conversation]:
    image, edited = (
        _image(folder, row.text(f'{which}_img_path')) for which in ('origin', 'target')
    )
    for number, instruction in enumerate(row.array('instruction')):
        text = Row(row.where, {'instruction': instruction}).text('instruction')
        id = f'smartedit-{row.text("key")}-{number}'
        yield _edit(id, 'smartedit', text, image, {'edited': edited})


def _image(folder: SetFolder, named: str) -> str:
    """Published paths begin with the folder that the authors had the set in."""
    parts = Path(named).parts
    tails = ['/'.join(parts[start:]) for start in range(len(parts))]
    return folder.medium(*(tail for tail in tails if not tail.startswith(('/', '.'))))[1]


def _benchmark_rows(folder: SetFolder) -> Iterator[Row]:
    texts = sorted(folder.root.rglob('*text*.txt'))
    if not texts:
        raise ConversionError(
            f'{folder.root}: has no folder with a text file, as 4-Color/*text*.txt'
        )
    for path in texts:
        images = sorted(p for p in path.parent.iterdir() if p.suffix in ('.png', '.jpg'))
        lines = [line for line in folder.read_text(path).splitlines() if line.strip()]
        for number in range(max(len(images), len(lines))):
            yield Row(
                folder.place(path, number),
                {
                    'kind': path.parent.name,
                    'image': _at([p.relative_to(folder.root).as_posix() for p in images], number),
                    'line': _at(lines, number),
                },
            )


def _at(values: list[str], number: int) -> str | None:
    return values[number] if number < len(values) else None


def _benchmark(folder: SetFolder, row: Row) -> Iterator[Conversation]:
    instruction, _, words = row.text('line').partition('CLIP:')
    if not instruction.strip():
        raise Rejected('line has no instruction')
    named = row.text('image')
    image = folder.medium(named)[1]
    id = f'reason-edit-{Path(named).with_suffix("").as_posix()}'
    targets = {'scene': row.text('kind'), 'clip': words.strip()}
    yield _edit(id, 'reason-edit', instruction.strip(), image, targets)


def _edit(
    id: str, kind: str, instruction: str, image: str, targets: dict[str, str]
) -> Conversation:
    pair = (instruction, [TaskCall('edit', instruction)])
    return conversation(id, kind, [pair], {'image': image}, targets)


SMARTEDIT = PublicSet(
    'smartedit',
    'SmartEdit synthetic training pairs',
    'image edits that need reasoning',
    'none stated for the data (code: Apache-2.0)',
    'github.com/TencentARC/SmartEdit',
    'one JSON file, and the images under the tails of the paths it names',
    _training_rows,
    _training,
)
REASON_EDIT = PublicSet(
    'reason-edit',
    'Reason-Edit benchmark',
    'image edits that need reasoning',
    'none stated for the data (code: Apache-2.0)',
    'github.com/TencentARC/SmartEdit',
    'KIND/*.png with KIND/*text*.txt (1-Left-Right, 2-Relative-Size, 3-Mirror, 4-Color, ...)',
    _benchmark_rows,
    _benchmark,
    ('test',),
)
