"""`unifiedmllm experts`: what the router can call, its weights, and single runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unifiedmllm_ros.experts.base import Progress
    from unifiedmllm_ros.experts.registry import ExpertRegistry
    from unifiedmllm_ros.representation import Region


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verbs."""
    parser.add_argument('--config', type=Path, help="experts.yaml (default: the package's own)")
    verbs = parser.add_subparsers(title='verbs', metavar='VERB', required=True)
    listing = verbs.add_parser('list', help='experts, their tasks, memory and licence')
    listing.set_defaults(run=run_list)
    check = verbs.add_parser('check', help='are libraries and weights there, does it load?')
    check.add_argument('names', nargs='*', metavar='NAME', help='default: all bound to a task')
    check.add_argument('--files-only', action='store_true', help='look at the files, load nothing')
    check.add_argument('--deep', action='store_true', help='compare the SHA-256 of fetched files')
    check.set_defaults(run=run_check)
    download = verbs.add_parser('download', help='fetch weights from the Hugging Face hub')
    download.add_argument('names', nargs='+', metavar='NAME')
    download.set_defaults(run=run_download)
    _add_run(verbs.add_parser('run', help='one task on files'))


def _add_run(one: argparse.ArgumentParser) -> None:
    one.add_argument('task', help='seg, edit, regedit, gen ... (`experts list`)')
    one.add_argument('--image', type=Path, help='image file')
    one.add_argument('--video', type=Path, help='video file, for tasks on videos')
    one.add_argument(
        '--region',
        action='append',
        default=[],
        metavar='PHRASE:X1,Y1,X2,Y2',
        help='a thing and its box, shares of width and height; may be given again',
    )
    one.add_argument('--argument', default='', help='instruction, prompt or note')
    one.add_argument('--expert', default='', help='its name (default: the one bound to the task)')
    one.add_argument('--seed', type=int, default=0)
    one.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='NAME=VALUE',
        help='a parameter of the expert, for example steps=20; may be given again',
    )
    one.add_argument('--out', type=Path, required=True, help='folder of the results')
    one.set_defaults(run=run_task)


def run_list(args: argparse.Namespace) -> int:
    """Print one line for each expert."""
    for status in _registry(args).list():
        tasks = ', '.join(status.tasks) or '-'
        mark = ' (non-commercial)' if status.non_commercial else ''
        print(
            f'{status.name:<25} {tasks:<8} {status.kind:<20} {status.state:<12} '
            f'{status.memory_mib:>6.0f} MiB  {status.licence}{mark}'
        )
        if status.reason:
            print(f'    {status.reason}')
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Check files and load what tasks are bound to; the status is 1 where one fails."""
    from unifiedmllm_ros.errors import UnifiedMLLMError

    registry, failed = _registry(args), 0
    bound = dict.fromkeys(registry.config.tasks.values())
    for name in args.names or bound:
        tasks = [task for task, to in registry.config.tasks.items() if to == name]
        label = f'{", ".join(tasks)}: {name}' if tasks else name
        try:
            _check(registry, name, args.files_only, args.deep)
            print(f'{label} is ready' if not args.files_only else f'{label}: files are complete')
        except UnifiedMLLMError as error:
            failed += 1
            print(f'{label}: {error}')
    registry.close()
    return 1 if failed else 0


def _check(registry: ExpertRegistry, name: str, files_only: bool, deep: bool) -> None:
    from unifiedmllm_ros.experts.weight_files import check_extra, check_files

    entry, weights = registry.entry(name), registry.weights(name)
    check_extra(name, entry)
    for part, place in () if weights is None else entry.parts(weights):
        check_files(name, part, place, deep=deep)
    expert = registry.get(name)
    if not files_only:
        with registry.residency.lease(expert, entry.need):
            pass


def run_download(args: argparse.Namespace) -> int:
    """Fetch the weights of the named experts, then check their files."""
    from unifiedmllm_ros.errors import ConfigError
    from unifiedmllm_ros.experts.hub import fetch
    from unifiedmllm_ros.experts.weight_files import check_files

    registry = _registry(args)
    for name in args.names:
        entry, weights = registry.entry(name), registry.weights(name)
        if weights is None:
            raise ConfigError(f'expert {name!r} has no weights: there is nothing to fetch')
        for part, place in entry.parts(weights):
            folder = fetch(name, part, place, lambda line: print(line, flush=True))
            check_files(name, part, place)
            print(f'{name}: complete in {folder}')
    return 0


def run_task(args: argparse.Namespace) -> int:
    """Run one task and write what comes of it, each file with its provenance beside it."""
    from unifiedmllm_ros.experts.files import Video, read_image, read_video, save_result
    from unifiedmllm_ros.representation import TaskCall
    from unifiedmllm_ros.router import Router

    router = Router(_registry(args))
    image = None if args.image is None else read_image(args.image)
    video = Video((), 0.0) if args.video is None else read_video(args.video)
    if video.frames:
        image = video.frames[0]
    call = TaskCall(args.task, args.argument, tuple(map(region_of, args.region)))
    result = router.run(
        call,
        image,
        frames=video.frames[1:],
        rate=video.rate,
        seed=args.seed,
        parameters=dict(map(parameter_of, args.set)),
        expert=args.expert,
        progress=show_progress,
    )
    router.close()
    facts = {'task': args.task, 'argument': args.argument}
    shape = None if image is None else (image.shape[0], image.shape[1])
    for notice in result.provenance.notices:
        print(notice)
    for path in save_result(result, args.out, args.task, shape=shape, facts=facts):
        print(f'wrote {path}')
    return 0


def region_of(text: str) -> Region:
    """Read `phrase:x1,y1,x2,y2`. Raises RequestError, RepresentationError for a wrong box."""
    from unifiedmllm_ros.errors import RequestError
    from unifiedmllm_ros.representation import Box, Region

    phrase, colon, numbers = text.rpartition(':')
    try:
        x1, y1, x2, y2 = map(float, numbers.split(','))
    except ValueError:
        colon = ''
    if not colon:
        raise RequestError(
            f'--region {text!r} is not phrase:x1,y1,x2,y2, for example "red mug:0.1,0.2,0.3,0.4"'
        )
    return Region(phrase, (Box(x1, y1, x2, y2),))


def parameter_of(text: str) -> tuple[str, Any]:
    """Read `name=value`, the value as YAML. Raises RequestError."""
    import yaml

    from unifiedmllm_ros.errors import RequestError

    name, equals, value = text.partition('=')
    try:
        found = yaml.safe_load(value)
    except yaml.YAMLError:
        equals = ''
    if not equals or not name:
        raise RequestError(f'--set {text!r} is not name=value, for example steps=20')
    return name, found


def show_progress(progress: Progress) -> None:
    """Show how far an expert is, on a terminal."""
    if sys.stderr.isatty():
        end = '\n' if progress.fraction >= 1 else ''
        print(f'\r{progress.phase:<12} {progress.fraction:4.0%}', end=end, file=sys.stderr)


def _registry(args: argparse.Namespace) -> ExpertRegistry:
    from unifiedmllm_ros.experts.registry import ExpertRegistry

    return ExpertRegistry.from_file(args.config)
