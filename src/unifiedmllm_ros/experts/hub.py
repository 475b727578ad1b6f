"""Weights from the Hugging Face hub: fetched only when a person asks for it, in pieces if need be.

What was fetched is written down beside it in `.unifiedmllm.json`, so that a file that is missing,
cut short or changed can be told later.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from unifiedmllm_ros.errors import ConfigError, MissingExtraError, ModelFileError, WriteError
from unifiedmllm_ros.experts.configuration import ExpertEntry
from unifiedmllm_ros.experts.weight_files import RECORD, digest

Say = Callable[[str], None]

# Endings of weights, those that hold tensors alone first; and of what is read beside them.
_WEIGHTS = ('.safetensors', '.bin', '.pt', '.pth')
_KEPT = ('.json', '.txt', '.model', '.spm', '.md', '')
_VARIANT = re.compile(r'\.(fp16|bf16|fp32|non_ema|ema)\b')


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: its name there, bytes, and SHA-256 ('' where the hub tells none)."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Listing:
    """What there is to fetch: the commit that the revision stands for, and its files."""

    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def target_folder(entry: ExpertEntry, weights: Path) -> Path:
    """Return the folder that files are fetched to; `weights` may be one of them."""
    return weights.parent if weights.name in entry.files else weights


def fetch(name: str, entry: ExpertEntry, weights: Path, say: Say) -> Path:
    """Fetch the weights of the expert `name`, and return their folder.

    Files that are there already are left alone; one that was begun is gone on with. HF_ENDPOINT
    names another server than huggingface.co.

    Raises ConfigError for an entry without repository, MissingExtraError without
    huggingface_hub, ModelFileError where the hub does not give the files, WriteError where they
    cannot be stored.
    """
    if not entry.repo:
        raise ConfigError(f'expert {name!r} names no repo in experts.yaml: it has nothing to fetch')
    folder = target_folder(entry, weights)
    _tell_licence(name, entry, say)
    listing = _asked(entry, lambda: _listing(name, entry))
    say(f'{len(listing.files)} files, {_mib(listing.size)}, to {folder}')
    _check_space(folder, listing)
    for index, file in enumerate(listing.files, start=1):
        say(f'{index}/{len(listing.files)} {file.name} ({_mib(file.size)})')
        _fetch_file(entry, listing, file, folder)
    _record(entry, listing, folder)
    return folder


def _tell_licence(name: str, entry: ExpertEntry, say: Say) -> None:
    say(f'{name}: {entry.repo}, revision {entry.revision}')
    say(f'licence of the weights: {entry.licence or "not known: read it at the repository"}')
    if entry.non_commercial:
        say('NON-COMMERCIAL: this licence forbids commercial use of the weights.')


def _listing(name: str, entry: ExpertEntry) -> Listing:
    api = _api(entry)
    commit = api.repo_info(entry.repo, revision=entry.revision).sha
    found = [
        RemoteFile(one.path, one.size, one.lfs.sha256 if one.lfs is not None else '')
        for one in api.list_repo_tree(entry.repo, recursive=True, revision=commit)
        if hasattr(one, 'size')
    ]
    names = {file.name for file in found}
    chosen = names if entry.files else _without_doubles(names, entry.variant)
    files = tuple(f for f in found if f.name in chosen and _wanted(f.name, entry.files))
    missing = [
        pattern for pattern in entry.files if not any(fnmatch(file.name, pattern) for file in found)
    ]
    if missing or not files:
        raise ModelFileError(
            f'{entry.repo} at {entry.revision} has no file {", ".join(missing) or "at all"}: '
            f'correct files or revision of expert {name!r} in experts.yaml'
        )
    return Listing(commit, files)


def _without_doubles(names: set[str], variant: str) -> set[str]:
    """Of weights that a folder holds in several forms, one: the variant, and no pickle, if it can.

    Repositories of pipelines hold checkpoints in one piece at their top too, which nobody reads.
    """
    folders: dict[PurePosixPath, list[str]] = {}
    for name in sorted(names):
        if PurePosixPath(name).suffix in _WEIGHTS:
            folders.setdefault(PurePosixPath(name).parent, []).append(name)
    chosen = {name for name in names if PurePosixPath(name).suffix in _KEPT}
    for folder, weights in folders.items():
        if folder == PurePosixPath('.') and 'model_index.json' in names:
            continue
        mark = re.compile(rf'\.{re.escape(variant)}[.-]')
        marked = [name for name in weights if variant and mark.search(name)]
        plain = [name for name in weights if not _VARIANT.search(PurePosixPath(name).name)]
        for form in (marked, plain, weights):
            for suffix in _WEIGHTS:
                if fitting := [name for name in form if name.endswith(suffix)]:
                    chosen |= set(fitting)
                    break
            else:
                continue
            break
    return chosen


def _wanted(name: str, patterns: Iterable[str]) -> bool:
    path = PurePosixPath(name)
    if path.is_absolute() or '..' in path.parts or '\\' in name:
        raise ModelFileError(f'the hub offers a file {name!r}, which lies outside its folder')
    patterns = tuple(patterns)
    return not patterns or any(fnmatch(name, pattern) for pattern in patterns)


def _fetch_file(entry: ExpertEntry, listing: Listing, file: RemoteFile, folder: Path) -> None:
    path = folder / file.name
    if _whole(path, file):
        return
    from huggingface_hub import hf_hub_download

    # One of this name that is not whole would be taken for the thing while the hub is away.
    path.unlink(missing_ok=True)
    _asked(
        entry,
        lambda: hf_hub_download(
            entry.repo,
            file.name,
            revision=listing.commit,
            local_dir=folder,
            endpoint=_endpoint(),
        ),
    )
    if not _whole(path, file):
        raise ModelFileError(
            f'{path} is not the file that {entry.repo} announced (size or SHA-256): fetch it again'
        )


def _whole(path: Path, file: RemoteFile) -> bool:
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    return not file.sha256 or digest(path) == file.sha256


def _record(entry: ExpertEntry, listing: Listing, folder: Path) -> None:
    known = {
        'repo': entry.repo,
        'revision': entry.revision,
        'commit': listing.commit,
        'licence': entry.licence,
        'files': [asdict(file) for file in listing.files],
    }
    part = folder / f'{RECORD}.part'
    try:
        # Two experts may share a folder (the checkpoints of SEEM): each adds its files.
        known['files'] = _merged(folder / RECORD, known['files'])
        part.write_text(json.dumps(known, indent=2) + '\n', encoding='utf-8')
        part.replace(folder / RECORD)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise WriteError(f'{folder / RECORD} cannot be written: {error.strerror}') from error


def _merged(path: Path, files: Any) -> Any:
    try:
        before = json.loads(path.read_text(encoding='utf-8'))['files']
        return [*(one for one in before if one['name'] not in {f['name'] for f in files}), *files]
    except (OSError, ValueError, KeyError, TypeError):
        return files


def _check_space(folder: Path, listing: Listing) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise WriteError(
            f'folder {folder} cannot be made ({error.strerror}): set weights to a folder of your '
            'own in a copy of experts.yaml'
        ) from error
    missing = sum(file.size for file in listing.files if not _whole(folder / file.name, file))
    if missing > free:
        raise WriteError(
            f'{folder} has {_mib(free)} free and {_mib(missing)} are to come: free some space or '
            'set weights to another disk'
        )


def _asked(entry: ExpertEntry, ask: Callable[[], Any]) -> Any:
    """What the hub answers; its many errors become one of ours."""
    try:
        return ask()
    except (ModelFileError, MissingExtraError):
        raise
    except OSError as error:
        # The hub's own errors are OSErrors as well; those of the disk have a number.
        if error.errno is not None and type(error).__module__ == 'builtins':
            raise WriteError(f'{entry.repo} cannot be stored: {error}') from error
        raise _refused(entry, error) from error
    except Exception as error:  # httpx's errors, those of validation
        raise _refused(entry, error) from error


def _refused(entry: ExpertEntry, error: Exception) -> ModelFileError:
    reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else ''
    kind = type(error).__name__
    remedy = 'is the network there, and the name right? Then run it again, it goes on'
    if 'Gated' in kind or '401' in reason or '403' in reason:
        remedy = (
            'accept its terms on the site of the hub and log in with `hf auth login`, or set '
            'HF_TOKEN'
        )
    return ModelFileError(f'{entry.repo} cannot be fetched ({kind}: {reason}): {remedy}')


def _api(entry: ExpertEntry) -> Any:
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise MissingExtraError.naming('huggingface_hub', entry.extra or 'experts') from error
    return HfApi(endpoint=_endpoint())


def _endpoint() -> str | None:
    return os.environ.get('HF_ENDPOINT') or None


def _mib(size: int) -> str:
    return f'{size / 2**20:.1f} MiB'
