"""Searches the bits of a decoder's matrices, with engines of graphs on a scratch disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.runtime import onnx_files
from unifiedmllm_ros.runtime.manifest import MANIFEST_FILE
from unifiedmllm_ros.runtime.onnx_engine import OnnxEngine
from unifiedmllm_ros.runtime.quantisation import Levels, matrices, quantise, uniform
from unifiedmllm_ros.runtime.sensitivity import Probe, choose

if TYPE_CHECKING:
    from unifiedmllm_ros.runtime.export_options import ExportOptions

_THREADS = 2


def search_levels(
    decoder: Any, graphs: Path, manifest: dict[str, Any], options: ExportOptions, image_id: int
) -> Levels:
    """Return how many bits each matrix of a decoder's graph gets; see `sensitivity`.

    decoder: the graph in float32, which stays as it is. graphs: folder with the encoders that were
    written before, as `manifest` describes them. Raises ConfigError for a decoder that is too
    large to be tried matrix by matrix.
    """
    sizes = matrices(decoder)
    if 4 * sum(sizes.values()) > options.external_above:
        raise ConfigError(
            f'a decoder of {sum(sizes.values()):,} weights is too large to try its matrices one '
            'by one; export it without examples'
        )
    assert options.bits
    with TemporaryDirectory() as name:
        workshop = _Workshop(Path(name), decoder, graphs, manifest)
        probe = Probe(workshop.open({}), options.examples, image_id)
        return choose(sizes, uniform(decoder, options.bits), workshop.open, probe)


class _Workshop:
    """A folder of graphs whose decoder is exchanged again and again."""

    def __init__(self, folder: Path, decoder: Any, graphs: Path, manifest: dict[str, Any]) -> None:
        self._folder, self._decoder, self._manifest = folder, decoder, manifest
        for entry in manifest['graphs'].values():
            for file in (entry, entry['weights']):
                if file:
                    shutil.copy(graphs / file['file'], folder)

    def open(self, levels: Levels) -> OnnxEngine:
        """Return an engine whose decoder has these levels; the one before stays usable."""
        import onnx

        from unifiedmllm_ros.runtime.export_manifest import graph_entry

        model = onnx.ModelProto()
        model.CopyFrom(self._decoder)
        model = quantise(model, levels, 'onnx')
        paths = onnx_files.save(model, self._folder / 'decoder.onnx')
        graphs = {**self._manifest['graphs'], 'decoder': graph_entry(model, paths)}
        text = json.dumps({**self._manifest, 'graphs': graphs})
        (self._folder / MANIFEST_FILE).write_text(text)
        return OnnxEngine.load(self._folder, _THREADS)
