"""The manifest of exported graphs: what the files are, and whether they are whole."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from unifiedmllm_ros.errors import ModelFileError

FORMAT: Final = 1
MANIFEST_FILE: Final = 'manifest.json'
_CHUNK = 1 << 20


class GraphFile(BaseModel):
    """One ONNX file: its name beside the manifest, size in bytes, hash, tensor names in order."""

    model_config = ConfigDict(extra='ignore', frozen=True)

    file: str
    bytes: PositiveInt
    sha256: str = Field(pattern='^[0-9a-f]{64}$')
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Manifest(BaseModel):
    """What export wrote: the graphs and the shapes that the runtime must know beforehand.

    layers, kv_heads, head_dim: shape of the key/value cache.
    hidden: width of an embedding. vocab: number of token ids.
    image_size: height and width of the pixels. visual_tokens: how many an image becomes.
    max_length: longest sequence, visual tokens included.
    precision: arithmetic of the graphs.
    """

    model_config = ConfigDict(extra='ignore', frozen=True)

    format: int
    model: str
    graphs: dict[str, GraphFile]
    layers: PositiveInt
    kv_heads: PositiveInt
    head_dim: PositiveInt
    hidden: PositiveInt
    vocab: PositiveInt
    image_size: tuple[PositiveInt, PositiveInt]
    visual_tokens: PositiveInt
    max_length: PositiveInt = 1024
    precision: str = 'fp32'

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read manifest.json. Raises ModelFileError where it is missing, damaged or of another
        format."""
        file = folder / MANIFEST_FILE
        try:
            fields = json.loads(file.read_text(encoding='utf-8'))
        except (OSError, ValueError) as error:
            raise ModelFileError(
                f'{file}: cannot be read ({error}); fetch the model again or export it'
            ) from error
        found = fields.get('format') if isinstance(fields, dict) else None
        if found != FORMAT:
            raise ModelFileError(
                f'{file}: format {found!r}, this version reads format {FORMAT}; '
                'export the model again with this version'
            )
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise ModelFileError(f'{file}: {error}; export the model again') from error

    def graph(self, folder: Path, name: str) -> Path:
        """Return the path of a graph's file, checked against its size and hash.

        Raises ModelFileError where it is missing, truncated or not the file that was exported.
        """
        if name not in self.graphs:
            raise ModelFileError(
                f'{folder / MANIFEST_FILE}: no graph {name!r}; export the model again'
            )
        entry = self.graphs[name]
        file = folder / entry.file
        if not file.is_file():
            raise ModelFileError(f'{file}: missing; fetch the model again or export it')
        size = file.stat().st_size
        if size != entry.bytes:
            raise ModelFileError(
                f'{file}: {size} bytes where the manifest says {entry.bytes}: truncated or '
                'replaced; fetch the model again or export it'
            )
        if _sha256(file) != entry.sha256:
            raise ModelFileError(
                f'{file}: not the file that the manifest describes (sha256 differs); '
                'fetch the model again or export it'
            )
        return file


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open('rb') as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
