"""`unifiedmllm data tabletop`: renders scenes and writes conversations about them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from unifiedmllm_ros.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from rich.progress import Progress

    from unifiedmllm_ros.data.conversation import Conversation
    from unifiedmllm_ros.tabletop.dataset import DatasetRequest

CONVERSATIONS = 'conversations.jsonl'
SCENES = 'scenes.jsonl'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.description = (
        'Render scenes of the simulated table into images/, masks/ and scenes.jsonl, and write '
        'conversations.jsonl about them. A run that was stopped goes on when it is started again.'
    )
    parser.add_argument('--count', type=int, required=True, metavar='N', help='scenes in all')
    parser.add_argument('--split', choices=('train', 'test'), required=True)
    parser.add_argument('--out', type=Path, required=True, metavar='DIR')
    parser.add_argument('--seed', type=int, default=0, help='another seed, other scenes (0)')
    parser.add_argument('--width', type=int, default=320, help='pixels (320)')
    parser.add_argument('--height', type=int, default=240, help='pixels (240)')
    parser.add_argument('--workers', type=int, default=1, help='processes (1); each needs 1.5 GiB')
    parser.add_argument('--questions', type=int, default=20, help='questions per scene (20)')
    parser.add_argument(
        '--dialogues', type=int, default=2, help='dialogues of three turns per scene (2)'
    )
    parser.add_argument(
        '--held-out',
        action='store_true',
        help='every scene holds an object that training never shows (test split only)',
    )


def run(args: argparse.Namespace) -> int:
    """Write the data set. Raises ConfigError for values that cannot be."""
    request = _request(args)
    from unifiedmllm_ros.tabletop.dataset import write_dataset

    with _progress() as progress:
        bar = progress.add_task('scenes', total=args.count)
        write_dataset(
            request, args.workers, lambda done: progress.update(bar, completed=done, refresh=True)
        )
        bar = progress.add_task('conversations', total=args.count * (1 + args.dialogues))
        for _ in _write(args):
            progress.advance(bar)
    print(f'{args.count} scenes in {args.out}')
    return 0


def _request(args: argparse.Namespace) -> DatasetRequest:
    for name in ('count', 'width', 'height', 'workers', 'questions'):
        if getattr(args, name) < 1:
            raise ConfigError(f'--{name} is {getattr(args, name)}: give at least 1')
    if max(args.width, args.height) > 3840:
        raise ConfigError(f'{args.width}x{args.height} is too large: at most 3840 pixels a side')
    if args.dialogues < 0:
        raise ConfigError(f'--dialogues is {args.dialogues}: give 0 or more')
    if args.seed < 0:
        raise ConfigError(f'--seed is {args.seed}: give 0 or more')
    if args.held_out and args.split != 'test':
        raise ConfigError('--held-out objects are never for training: use it with --split test')
    from unifiedmllm_ros.tabletop.dataset import DatasetRequest
    from unifiedmllm_ros.tabletop.sampling import Wanted

    wanted = Wanted(args.split, args.held_out, args.seed)
    return DatasetRequest(args.out, args.count, wanted, args.width, args.height)


def _progress() -> Progress:
    try:
        from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
    except ImportError as error:
        raise MissingExtraError.naming('rich', 'tabletop') from error
    return Progress(*Progress.get_default_columns(), MofNCompleteColumn(), TimeRemainingColumn())


def _write(args: argparse.Namespace) -> Iterator[None]:
    """Write the conversations, yielding after each."""
    from unifiedmllm_ros.data.conversation import to_line

    partial = args.out / f'{CONVERSATIONS}.part'
    with open(partial, 'w', encoding='utf-8') as lines:
        for conversation in conversations(
            args.out / SCENES, args.questions, args.seed, args.dialogues
        ):
            lines.write(to_line(conversation))
            yield
    partial.replace(args.out / CONVERSATIONS)


def conversations(
    scenes: Path, questions_each: int, seed: int, dialogues_each: int = 0
) -> Iterator[Conversation]:
    """Conversations about each scene of a scenes.jsonl: one of questions that have nothing to do
    with one another, and `dialogues_each` dialogues whose turns have.

    The phrasings are those of the scene's split; the same scene and `seed` give the same text.
    """
    from unifiedmllm_ros.tabletop.conversations import questions_to_conversation
    from unifiedmllm_ros.tabletop.dialogues import dialogue
    from unifiedmllm_ros.tabletop.questions import EDITS, KINDS, questions
    from unifiedmllm_ros.tabletop.record import read_scenes

    # After an edit the next question would be about another picture: only dialogues follow that.
    kinds = [kind for kind in KINDS if kind not in EDITS]
    for scene in read_scenes(scenes):
        rng = Random(f'{scene.split}/{seed}/{scene.id}')
        asked = questions(scene, rng, scene.split, kinds, questions_each)
        if asked:
            yield questions_to_conversation(scene, asked)
        for number in range(dialogues_each):
            talk = dialogue(scene, rng, scene.split)
            yield questions_to_conversation(scene, talk, f'-dialogue-{number}')
