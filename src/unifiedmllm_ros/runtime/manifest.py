"""The manifest of exported graphs: what the files are, and whether they are whole."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from unifiedmllm_ros.errors import ModelFileError

FORMAT: Final = 3
MANIFEST_FILE: Final = 'manifest.json'
DEFAULT_LENGTH: Final = 1024
DECODER_INPUTS: Final = ('input_ids', 'features', 'places', 'position', 'visible', 'rows')
"""Of the decoder graph, before the cache; see graphs.DecoderGraph."""


class WeightsFile(BaseModel):
    """A file: its name beside the manifest, size in bytes, hash."""

    model_config = ConfigDict(extra='ignore', frozen=True)

    file: str = Field(pattern=r'^[^/\\]+$')
    bytes: PositiveInt
    sha256: str = Field(pattern='^[0-9a-f]{64}$')


class GraphFile(WeightsFile):
    """One ONNX file.

    inputs, outputs: tensor names in order; types and shapes: of them, where a word in a shape
    stands for any length. weights: the file of weights that are too large for the graph's own.
    precision: arithmetic of the graph, or bits of its weights. bits: of each matrix, where the
    weights are integers; 16 for one that stays as it is.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    types: dict[str, str] = {}
    shapes: dict[str, tuple[int | str, ...]] = {}
    weights: WeightsFile | None = None
    precision: str = 'fp32'
    bits: dict[str, int] = {}


class VideoShape(BaseModel):
    """Frames that the video graph takes, and tokens that they become."""

    model_config = ConfigDict(extra='ignore', frozen=True)

    frames: PositiveInt
    tokens: PositiveInt


class AudioShape(BaseModel):
    """Samples of a segment, at `rate` Hz, and tokens that it becomes."""

    model_config = ConfigDict(extra='ignore', frozen=True)

    samples: PositiveInt
    rate: PositiveInt
    tokens: PositiveInt


class Manifest(BaseModel):
    """What export wrote: the graphs and the shapes that the runtime must know beforehand.

    layers, kv_heads, head_dim: shape of the key/value cache.
    hidden: width of an embedding. vocab: number of token ids.
    image_size: height and width of the pixels. visual_tokens: how many an image becomes.
    max_length: longest sequence, visual tokens included.
    video, audio: what those graphs take, None where the model has none.
    precision: arithmetic of the decoder, or bits of its weights. cache: type of keys and values.
    target: whose form of integer weights the graphs have, 'onnx' or 'tensorrt'.
    check: what the comparison with torch gave, if there was one.
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
    max_length: PositiveInt = DEFAULT_LENGTH
    precision: str = 'fp32'
    video: VideoShape | None = None
    audio: AudioShape | None = None
    cache: Literal['fp32', 'fp16', 'bf16'] = 'fp32'
    target: str = 'onnx'
    versions: dict[str, str] = {}
    check: dict[str, Any] | None = None

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

    @property
    def cache_names(self) -> tuple[str, ...]:
        """Names of the decoder's inputs that are its cache."""
        layers = range(self.layers)
        return tuple(f'{kind}_{layer}' for kind in ('keys', 'values') for layer in layers)

    def graph(self, folder: Path, name: str) -> Path:
        """Return the path of a graph's file, checked against its size and hash.

        Raises ModelFileError where it is missing, truncated or not the file that was exported.
        """
        if name not in self.graphs:
            raise ModelFileError(
                f'{folder / MANIFEST_FILE}: no graph {name!r}; export the model again'
            )
        entry = self.graphs[name]
        _check_file(folder / entry.file, entry)
        if entry.weights is not None:
            _check_file(folder / entry.weights.file, entry.weights)
        return folder / entry.file

    @property
    def arithmetic(self) -> str:
        """The precision, and that of the vision graph where it has its convolutions in 8 bits."""
        return f'{self.precision}, vision int8' if self.vision_in_int8 else self.precision

    @property
    def vision_in_int8(self) -> bool:
        """Whether the vision graph has its convolutions in 8 bits, which TensorRT does not take."""
        return 'vision' in self.graphs and self.graphs['vision'].precision == 'int8'

    @property
    def weights_hash(self) -> str:
        """One sha256 of all graphs and weights."""
        digest = hashlib.sha256()
        for name, entry in sorted(self.graphs.items()):
            digest.update(f'{name} {entry.sha256}'.encode())
            digest.update(b'' if entry.weights is None else entry.weights.sha256.encode())
        return digest.hexdigest()

    @property
    def weights_bytes(self) -> int:
        """Bytes of all graphs and weights."""
        return sum(map(self.bytes_of, self.graphs))

    def bytes_of(self, graph: str) -> int:
        """Bytes of a graph and its weights."""
        entry = self.graphs[graph]
        return entry.bytes + (entry.weights.bytes if entry.weights else 0)


def _check_file(file: Path, entry: WeightsFile) -> None:
    if not file.is_file():
        raise ModelFileError(f'{file}: missing; fetch the model again or export it')
    size = file.stat().st_size
    if size != entry.bytes:
        raise ModelFileError(
            f'{file}: {size} bytes where the manifest says {entry.bytes}: truncated or '
            'replaced; fetch the model again or export it'
        )
    if file_sha256(file) != entry.sha256:
        raise ModelFileError(
            f'{file}: not the file that the manifest describes (sha256 differs); '
            'fetch the model again or export it'
        )


def file_sha256(file: Path) -> str:
    """Return the sha256 of a file of any size."""
    with file.open('rb') as stream:
        return hashlib.file_digest(stream, 'sha256').hexdigest()
