"""`unifiedmllm data ground` and `unifiedmllm data dialogues`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from unifiedmllm_ros.errors import ConfigError

if TYPE_CHECKING:
    from unifiedmllm_ros.data.dialogues import Progress
    from unifiedmllm_ros.data.grounding import GroundedImage
    from unifiedmllm_ros.data.writer import Writer

TEMPLATE = 'template'


def add_ground_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `data ground`."""
    parser.description = (
        'Find things in pictures with an object detector of transformers, or the phrases given '
        'with any model, and write their boxes as `data dialogues --boxes` reads them.'
    )
    parser.add_argument('--images', type=Path, required=True, metavar='DIR', help='pictures')
    parser.add_argument(
        '--detector', required=True, help='folder of a checkpoint; with --phrases any model'
    )
    parser.add_argument(
        '--phrases', default='', help='what to look for, such as "dog,blue car" (its own classes)'
    )
    parser.add_argument(
        '--out', type=Path, required=True, metavar='FILE', help='JSONL, in DIR or above it'
    )
    parser.add_argument('--threshold', type=float, default=0.4, help='least score (0.4)')
    parser.add_argument('--threads', type=int, default=2, help='CPU threads (2)')
    parser.set_defaults(run=run_ground)


def run_ground(args: argparse.Namespace) -> int:
    """Detect, write the boxes, say how many."""
    from unifiedmllm_ros.data.detector import Detector, Finder, PhraseFinder, ground

    finder: Finder
    if args.phrases:
        phrases = args.phrases.split(',')
        finder = PhraseFinder.load(args.detector, phrases, args.threshold, args.threads)
    else:
        finder = Detector.load(Path(args.detector), args.threshold, args.threads)
    images, things, unreadable = ground(args.images, args.out, finder)
    print(f'{things} things in {images} pictures in {args.out}')
    for path in unreadable:
        print(f'  left out: {path} cannot be read')
    return 0


def add_dialogue_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `data dialogues`."""
    parser.description = (
        'Write dialogues of several turns and tasks about pictures whose things are known. A run '
        'that was stopped goes on when it is started again.'
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--scenes', type=Path, metavar='FILE', help='scenes.jsonl of the table')
    source.add_argument('--boxes', type=Path, metavar='FILE', help='JSONL of boxes')
    source.add_argument(
        '--conversations', type=Path, metavar='FILE', help='JSONL whose answers hold boxes'
    )
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='DIR',
        help='folder of that file or above it, since pictures are named from there',
    )
    parser.add_argument('--name', default='dialogues', help='begins the names of the files')
    parser.add_argument(
        '--writer',
        default=TEMPLATE,
        help='template (no network), or the description (.yaml) of a model on a server',
    )
    parser.add_argument('--each', type=int, default=2, help='dialogues about each picture (2)')
    parser.add_argument(
        '--turns', type=int, nargs=2, default=(3, 5), metavar=('FEW', 'MANY'), help='(3 5)'
    )
    parser.add_argument('--limit', type=int, help='use the first so many pictures only')
    parser.add_argument('--val', type=float, default=0.02, help='share of the pictures (0.02)')
    parser.add_argument('--test', type=float, default=0.02, help='share of the pictures (0.02)')
    parser.add_argument('--seed', type=int, default=0, help='another seed, other dialogues (0)')
    parser.add_argument('--rate', type=float, default=0, help='most requests a minute (no limit)')
    parser.add_argument(
        '--price', type=float, nargs=2, default=(0, 0), metavar=('IN', 'OUT'),
        help='of a million tokens read and written',
    )  # fmt: skip
    parser.add_argument('--budget', type=float, help='end the run when it has cost so much')
    parser.set_defaults(run=run_dialogues)


def run_dialogues(args: argparse.Namespace) -> int:
    """Build the set and print the report. Raises ConfigError for values that cannot be."""
    _check(args)
    from tqdm import tqdm

    from unifiedmllm_ros.data.dialogues import Prices, Progress, Request, build

    source = args.scenes or args.boxes or args.conversations
    images = _images(args)
    request = Request(
        args.out, source.parent, args.each, tuple(args.turns), args.seed, (args.val, args.test),
        args.name,
    )  # fmt: skip
    prices = Prices(args.price[0], args.price[1], args.budget)
    last = Progress(0)

    def show(progress: Progress) -> None:
        nonlocal last
        last = progress
        bar.total, bar.n = progress.jobs, progress.done
        bar.set_postfix_str(_state(progress), refresh=False)
        bar.update(0)

    with tqdm(total=len(images) * args.each, unit='dialogue', mininterval=1) as bar:
        report = build(request, images, _writer(args), prices, show)
    print(report)
    print(_state(last))
    return 0


def _state(progress: Progress) -> str:
    text = f'{progress.good} good'
    if progress.read or progress.wrote:
        text += f', {progress.read} tokens read, {progress.wrote} written'
    return text + (f', cost {progress.cost:.2f}' if progress.cost else '')


def _check(args: argparse.Namespace) -> None:
    few, many = args.turns
    if not 1 <= few <= many <= 20:
        raise ConfigError(f'--turns is {few} {many}: give fewest and most, from 1 to 20')
    for name in ('each', 'limit'):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ConfigError(f'--{name} is {value}: give at least 1')
    for name in ('rate', 'budget', 'val', 'test'):
        value = getattr(args, name)
        if value is not None and value < 0:
            raise ConfigError(f'--{name} is {value}: give 0 or more')
    if min(args.price) < 0:
        raise ConfigError(f'--price is {args.price}: give 0 or more')
    if args.val + args.test >= 1:
        raise ConfigError(f'--val and --test leave nothing to train: {args.val} + {args.test}')


def _images(args: argparse.Namespace) -> list[GroundedImage]:
    from itertools import islice

    from unifiedmllm_ros.data import grounding

    if args.scenes:
        found = grounding.from_scenes(args.scenes)
    elif args.boxes:
        found = grounding.from_boxes(args.boxes)
    else:
        found = grounding.from_conversations(args.conversations)
    return list(islice(found, args.limit))


def _writer(args: argparse.Namespace) -> Writer:
    if args.writer == TEMPLATE:
        from unifiedmllm_ros.data.template_writer import TemplateWriter

        return TemplateWriter()
    from unifiedmllm_ros.cancellation import never
    from unifiedmllm_ros.data.remote_writer import RemoteWriter
    from unifiedmllm_ros.runtime.remote.description import read_description

    writer = RemoteWriter(read_description(Path(args.writer)), args.rate)
    writer.check(never)
    return writer
