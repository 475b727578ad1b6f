"""Built engines on disk, each with all that makes it valid.

A file is one line of JSON and the engine. Its name says for what it was built; the line says that
again with the weights' hash and the library's version, and the engine's own hash. A file that is
not what its place asks for is an error that names it: nothing is rebuilt in silence.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from unifiedmllm_ros.errors import EngineFileError

FOLDER_VARIABLE: Final = 'UNIFIEDMLLM_ENGINES'
_MAGIC: Final = 'unifiedmllm-engine-1'
_LONGEST_LINE: Final = 1 << 16
_REBUILD: Final = 'run unifiedmllm export --to tensorrt --rebuild to build it anew'
# Others than these were built for another place altogether.
_CURRENT = ('weights', 'library', 'version')


@dataclass(frozen=True)
class EngineKey:
    """All that makes an engine valid.

    model, graph: whose. weights: sha256 of the graph and its weights. library, version: that
    built it. capability: of the GPU. precision: of the graph. profile: shapes that it takes.
    """

    model: str
    graph: str
    weights: str
    library: str
    version: str
    capability: str
    precision: str
    profile: str

    @property
    def file(self) -> str:
        """Name of the engine's file."""
        words = (self.model, self.graph, f'sm{self.capability}', self.precision, self.profile)
        return '-'.join(word.replace(os.sep, '_') for word in words) + '.engine'


@dataclass(frozen=True)
class EngineCache:
    """A folder of engines."""

    folder: Path

    @classmethod
    def open(cls, folder: Path | None = None) -> Self:
        """Open the cache, by default $UNIFIEDMLLM_ENGINES or ~/.cache/unifiedmllm/engines.

        Raises EngineFileError where it cannot be written: at the start, not after a long build.
        """
        if folder is None:
            named = os.environ.get(FOLDER_VARIABLE)
            folder = Path(named) if named else Path.home() / '.cache' / 'unifiedmllm' / 'engines'
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, prefix='.writable-'):
                pass
        except OSError as error:
            raise EngineFileError(
                f'{folder}: engines cannot be written there ({error}); make the folder writable '
                f'or name another one in {FOLDER_VARIABLE}'
            ) from error
        return cls(folder)

    def load(self, key: EngineKey) -> bytes | None:
        """Return an engine, None where none was built yet.

        Raises EngineFileError for a file that is truncated, damaged, stale (built of other weights
        or by another library) or foreign (built for another GPU, precision or profile).
        """
        file = self.folder / key.file
        try:
            with file.open('rb') as stream:
                line, plan = stream.readline(_LONGEST_LINE), stream.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise EngineFileError(f'{file}: cannot be read ({error}); {_REBUILD}') from error
        header = _header(file, line)
        if len(plan) != header['bytes']:
            raise EngineFileError(
                f'{file}: truncated, {len(plan)} of {header["bytes"]} bytes; {_REBUILD}'
            )
        if hashlib.sha256(plan).hexdigest() != header['sha256']:
            raise EngineFileError(f'{file}: damaged (sha256 differs); {_REBUILD}')
        _check_key(file, header['key'], asdict(key))
        return plan

    def store(self, key: EngineKey, plan: bytes) -> Path:
        """Write an engine; readers see the whole file or none.

        Raises EngineFileError where it cannot be written, as on a full disk.
        """
        file = self.folder / key.file
        header = {
            'magic': _MAGIC,
            'key': asdict(key),
            'bytes': len(plan),
            'sha256': hashlib.sha256(plan).hexdigest(),
        }
        handle, name = tempfile.mkstemp(dir=self.folder, prefix='.building-')
        try:
            with os.fdopen(handle, 'wb') as stream:
                stream.write(json.dumps(header).encode() + b'\n' + plan)
            os.replace(name, file)
        except OSError as error:
            Path(name).unlink(missing_ok=True)
            raise EngineFileError(
                f'{file}: cannot be written ({error}); free some space or name another folder in '
                f'{FOLDER_VARIABLE}'
            ) from error
        return file


def _header(file: Path, line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
        if header['magic'] == _MAGIC and isinstance(header['key'], dict):
            return {name: header[name] for name in ('key', 'bytes', 'sha256')}
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise EngineFileError(f'{file}: no engine of this version, or damaged; {_REBUILD}')


def _check_key(file: Path, found: dict[str, Any], wanted: dict[str, str]) -> None:
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    if not differing:
        return
    kind = 'stale' if set(differing) <= set(_CURRENT) else 'foreign'
    words = ', '.join(
        f'{name} {found.get(name)!r} where {wanted[name]!r} is wanted' for name in differing
    )
    raise EngineFileError(f'{file}: {kind}, built for {words}; {_REBUILD}')
