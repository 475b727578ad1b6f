"""The folder that a public set was unpacked into: its annotation files and its media."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unifiedmllm_ros.data.converters.image_header import image_size
from unifiedmllm_ros.data.converters.report import Report
from unifiedmllm_ros.data.converters.rows import Rejected, Row
from unifiedmllm_ros.errors import ImageError, UnifiedMLLMError


class ConversionError(UnifiedMLLMError):
    """A set that cannot be converted at all; the message names the file that is missing or bad."""

    code = 'invalid_data_set'


@dataclass(frozen=True)
class SetFolder:
    """Where a set lies.

    root: its folder. out: the folder of the file to write, that media paths are relative to.
    split: the part wanted ('train', ...). report: takes what is left out.
    """

    root: Path
    out: Path
    split: str
    report: Report

    def find(self, *candidates: str) -> Path:
        """The first of the files or folders that exists; patterns are allowed.

        Raises ConversionError where there is none.
        """
        for candidate in candidates:
            if found := self._first(candidate):
                return found
        raise ConversionError(
            f'{self.root}: has no {" nor ".join(candidates)}: unpack the set as published there '
            '(docs/data.md shows the layout)'
        )

    def has(self, candidate: str) -> bool:
        """Whether there is such a file or folder."""
        return self._first(candidate) is not None

    def _first(self, candidate: str) -> Path | None:
        if (self.root / candidate).exists():
            return self.root / candidate
        return next(iter(sorted(self.root.glob(candidate))), None) if '*' in candidate else None

    def medium(self, *candidates: str) -> tuple[Path, str]:
        """A media file (or folder of frames): its path, and as conversations name it.

        Raises Rejected where none of the candidates exists, ConversionError where media are not
        below the folder of the file that is written.
        """
        for candidate in candidates:
            path = self.root / candidate
            if candidate and path.exists() and self._inside(candidate):
                return path, self._relative(path)
        raise Rejected(f'media file is missing below {_folder_of(candidates)}')

    def _inside(self, candidate: str) -> bool:
        return not os.path.isabs(candidate) and '..' not in Path(candidate).parts

    def _relative(self, path: Path) -> str:
        relative = os.path.relpath(path.absolute(), self.out.absolute())
        if relative.startswith('..'):
            raise ConversionError(
                f'{self.root} is not below {self.out}: media are named relative to the file that '
                'is written, so let --out be in the folder of the set or above it'
            )
        return Path(relative).as_posix()

    def size(self, path: Path) -> tuple[int, int]:
        """(width, height) from an image's header. Raises Rejected for a damaged image."""
        try:
            return image_size(path)
        except ImageError as error:
            raise Rejected('image is damaged') from error

    def place(self, path: Path, number: int | str = '') -> str:
        """How reports name a spot."""
        name = path.relative_to(self.root).as_posix()
        return f'{name}, row {number}' if number != '' else name

    def read_json(self, path: Path, encodings: tuple[str, ...] = ('utf-8',)) -> Any:
        """The value of a JSON file. Raises ConversionError naming file and place of the fault."""
        text = self.read_text(path, encodings)
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise ConversionError(f'{path}, line {error.lineno}: {error.msg}') from error

    def read_text(self, path: Path, encodings: tuple[str, ...] = ('utf-8',)) -> str:
        """The text of a file in the first encoding that fits. Raises ConversionError."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ConversionError(f'{path}: cannot be read: {error.strerror}') from error
        for encoding in encodings:
            try:
                return data.decode(encoding)
            except UnicodeDecodeError:
                continue
        raise ConversionError(f'{path}: is not text in {" or ".join(encodings)}')

    def row_json(self, path: Path, encodings: tuple[str, ...] = ('utf-8',)) -> Any:
        """The value of a JSON file that one row is about. Raises Rejected for a damaged one."""
        try:
            return self.read_json(path, encodings)
        except ConversionError as error:
            raise Rejected('annotation file of the row is damaged') from error

    def row_text(self, path: Path) -> str:
        """The text of a file that one row is about. Raises Rejected for a damaged one."""
        try:
            return self.read_text(path)
        except ConversionError as error:
            raise Rejected('annotation file of the row is damaged') from error

    def json_rows(self, path: Path, key: str | None = None) -> Iterator[Row]:
        """The rows of a JSON list, or of the list under `key` of a JSON object."""
        yield from self.rows_of(path, self.read_json(path), key)

    def rows_of(self, path: Path, value: Any, key: str | None = None) -> Iterator[Row]:
        """The same of a value that has been read already."""
        if key is not None:
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, list):
            raise ConversionError(f'{path}: holds no list {key or ""}'.rstrip())
        for number, item in enumerate(value):
            yield Row.of(self.place(path, number), item)

    def csv_rows(self, path: Path) -> Iterator[Row]:
        """The rows of a CSV file with a header."""
        lines = io.StringIO(self.read_text(path, ('utf-8-sig', 'latin-1')), newline='')
        for number, item in enumerate(csv.DictReader(lines), start=1):
            yield Row.of(self.place(path, number), item)


def _folder_of(candidates: tuple[str, ...]) -> str:
    """The first two folders of the first candidate: few reasons, not one for each file."""
    first = next((c for c in candidates if c), '')
    return '/'.join(Path(first).parts[:-1][:2]) or 'the set'
