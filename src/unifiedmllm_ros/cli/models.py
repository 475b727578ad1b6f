"""`unifiedmllm models`: which models there are, getting one, and whether it can answer."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verbs and options."""
    verbs = parser.add_subparsers(dest='action', required=True, metavar='ACTION')
    listing = verbs.add_parser('list', help='list models here and models to download')
    listing.set_defaults(run=run_list)
    checking = verbs.add_parser('check', help='load a model, or ask its server for it')
    checking.add_argument('model', help='name, folder, or description (.yaml, .json)')
    checking.add_argument('--threads', type=int, default=2, help='CPU threads')
    checking.set_defaults(run=run_check)
    getting = verbs.add_parser('download', help='download a published model (goes on if cut off)')
    getting.add_argument('model', help='owner/name on the Hugging Face hub')
    getting.add_argument('--revision', help='branch, tag or commit')
    getting.add_argument('--dry-run', action='store_true', help='show licence and size only')
    getting.set_defaults(run=run_download)
    using = verbs.add_parser('use', help='describe a downloaded model and say how to start it')
    using.add_argument('model', help='owner/name, or a folder with a checkpoint')
    using.add_argument('--name', help='name of the description, by default that of the model')
    using.add_argument('--dtype', default='auto', help='auto, float32, float16 or bfloat16')
    using.add_argument('--quantisation', default='', help='such as bitsandbytes-4bit')
    using.add_argument('--constrained', action='store_true', help='hold it to our grammar')
    using.add_argument('--force', action='store_true', help='replace a description of that name')
    using.set_defaults(run=run_use)


def run_list(args: argparse.Namespace) -> int:
    """Print what `--model` takes, and what can be downloaded."""
    from unifiedmllm_ros.model.adapters.registry import ADAPTERS, DETECTORS
    from unifiedmllm_ros.runtime.catalogue import CATALOGUE
    from unifiedmllm_ros.runtime.loading import available

    print('here:')
    for name, kind in available():
        print(f'  {name:<46} {kind}')
    print('to download (unifiedmllm models download NAME):')
    for model in CATALOGUE:
        needs = f'{model.need(16):5.1f} GiB, {model.need(4):5.1f} in 4 bits'
        print(f'  {model.repository:<62} {needs}  {model.licence}')
    print(f'adapters: {", ".join((*ADAPTERS, *DETECTORS))}')
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Load the model, or find it on its server; with a fallback, both."""
    from unifiedmllm_ros.runtime.loading import description_file, description_kind, load_model
    from unifiedmllm_ros.runtime.remote.description import read_description
    from unifiedmllm_ros.runtime.remote.model import RemoteModel

    path = description_file(args.model)
    if path is None or description_kind(path) in ('local', 'pair'):
        info = load_model(args.model, threads=args.threads).info
        print(f'{info.name}: {info.backend}, {info.precision}, {info.device}')
        return 0
    description = read_description(path)
    description.api_key()
    if description.fallback:
        info = load_model(description.fallback, threads=args.threads).info
        print(f'fallback {info.name}: {info.backend}, {info.precision}, {info.device}')
    name = RemoteModel(description).check()
    print(f'{name}: served at {description.url}, answers as {description.representation}')
    return 0


def run_download(args: argparse.Namespace) -> int:
    """Show the licence, then fetch what is missing."""
    from unifiedmllm_ros.runtime.local.checkpoint import find
    from unifiedmllm_ros.runtime.local.download import download, look_up

    offer = look_up(args.model, args.revision)
    size = 'size not stated' if offer.size is None else f'{offer.size / 1e9:.2f} GB'
    print(f'{offer.repository} at {offer.revision[:12]}: {offer.files} files, {size}')
    print(f'licence: {offer.licence}{" (to be accepted on its page)" if offer.gated else ""}')
    if args.dry_run:
        return 0
    folder = download(offer)
    find(str(folder), folder)
    print(f'complete: {folder}')
    print(f'next: unifiedmllm models use {offer.repository}')
    return 0


def run_use(args: argparse.Namespace) -> int:
    """Write a description into the user's models; the robot's default stays what it is."""
    from pathlib import Path

    from unifiedmllm_ros.errors import ConfigError
    from unifiedmllm_ros.locations import user_models
    from unifiedmllm_ros.runtime.local.checkpoint import check_family, find
    from unifiedmllm_ros.runtime.local.description import LocalDescription, read_local

    checkpoint = find(args.model, Path())
    check_family(checkpoint, '')
    place = Path(args.model).expanduser()
    weights = str(place.resolve()) if place.is_dir() else args.model
    name = args.name or checkpoint.name.rpartition('/')[2]
    if Path(name).name != name or not name.strip('.'):
        raise ConfigError(f'{name!r} is no name for a file')
    path = user_models() / f'{name}.yaml'
    if path.exists() and not args.force:
        raise ConfigError(f'{path} is there already: give another --name, or --force')
    fields = {
        'weights': weights,
        'dtype': args.dtype,
        'quantisation': args.quantisation,
        'constrained': args.constrained,
    }
    _write(path, fields)
    described = read_local(path)
    assert isinstance(described, LocalDescription)
    print(f'wrote {path}; use it with')
    print(f'  unifiedmllm ask "find the mug" --image photo.jpg --model {path.name}')
    print(f'  unifiedmllm up --model {path.name}')
    print(f'  ros2 launch unifiedmllm_ros perception.launch.py model:={path.name}')
    return 0


def _write(path, fields) -> None:  # type: ignore[no-untyped-def]
    """Only what holds up is written."""
    import pydantic
    import yaml

    from unifiedmllm_ros.errors import ConfigError
    from unifiedmllm_ros.runtime.local.description import LocalDescription

    content = {'kind': 'local', **{name: value for name, value in fields.items() if value}}
    try:
        LocalDescription.model_validate(content)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f'{".".join(map(str, first["loc"]))}: {first["msg"]}') from error
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding='utf-8')
