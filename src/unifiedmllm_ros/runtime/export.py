"""Export to ONNX: the graphs that every accelerated engine runs, and their manifest.

`vision.onnx`, and `video.onnx` and `audio.onnx` where the model has those branches: an encoder
with its adapter, from pixels or samples to tokens in the language model's embedding space.
`decoder.onnx`: such tokens and token ids with a key/value cache -> logits; prefill, decoding and
forced tokens are the same graph. What goes in and comes out is float32; `precision` is that of the
arithmetic inside.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.model.audio import AudioTower
from unifiedmllm_ros.model.configuration import RegionVisionConfig
from unifiedmllm_ros.model.mask_network import CROP
from unifiedmllm_ros.model.modeling import UnifiedMLLMForConditionalGeneration
from unifiedmllm_ros.model.precision import convert
from unifiedmllm_ros.runtime import onnx_files
from unifiedmllm_ros.runtime.calibration import Example
from unifiedmllm_ros.runtime.engine import Array
from unifiedmllm_ros.runtime.export_manifest import (
    graph_entry,
    head_width,
    image_size,
    manifest_fields,
)
from unifiedmllm_ros.runtime.export_options import (
    PRECISIONS,
    TARGETS,
    ExportOptions,
    Precision,
    Target,
)
from unifiedmllm_ros.runtime.graphs import (
    AudioGraph,
    DecoderGraph,
    VideoGraph,
    VisionGraph,
    exportable,
    translations,
)
from unifiedmllm_ros.runtime.manifest import (
    DECODER_INPUTS,
    MANIFEST_FILE,
)
from unifiedmllm_ros.runtime.onnx_files import EXTERNAL_ABOVE
from unifiedmllm_ros.runtime.quantisation import Levels, quantise, uniform
from unifiedmllm_ros.runtime.rotations import Heads
from unifiedmllm_ros.runtime.simplification import simplify
from unifiedmllm_ros.runtime.vision_quantisation import quantise_convolutions

OPSET: Final = 20
CACHE_OPSET: Final = 24  # the first with TensorScatter
_DTYPES = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}


@dataclass(frozen=True)
class Graph:
    """A module to export. shapes: for each input its axes of any length. pictures: pixels that set
    the ranges of its convolutions in 8 bits; none for convolutions as they are."""

    name: str
    module: nn.Module
    inputs: tuple[Any, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    shapes: tuple[Any, ...] | None = None
    precision: Precision = 'fp32'
    opset: int = OPSET
    pictures: tuple[Array, ...] = ()


def export_model(
    model: UnifiedMLLMForConditionalGeneration,
    name: str,
    out: Path,
    half_weights: bool = True,
    *,
    precision: Precision = 'fp32',
    target: Target = 'onnx',
    max_length: int | None = None,
    external_above: int = EXTERNAL_ABOVE,
    examples: Sequence[Example] = (),
    int8_vision: bool = False,
) -> dict[str, Any]:
    """Write the graphs and manifest.json to `out`; returns the manifest.

    model: with a LoRAMoE adapter attached by PEFT it may be the PeftModel; the experts and their
    router stay in the graph. It is converted to float32, and its weights rounded to float16
    where those are stored. See ExportOptions for the rest. Raises
    ConfigError for options that do not go together.
    """
    options = ExportOptions(
        precision,
        target,
        half_weights,
        max_length,
        external_above,
        tuple(examples),
        int8_vision,
    )
    base = _base(model).eval().float()
    _check(base, options)
    if half_weights:
        convert(convert(base, torch.float16), torch.float32)
    out.mkdir(parents=True, exist_ok=True)
    entries: dict[str, Any] = {}

    def search(decoder: Any) -> Levels:
        from unifiedmllm_ros.runtime.mixed_precision import search_levels

        described = {**manifest_fields(base, name, entries, options), 'precision': 'fp32'}
        return search_levels(decoder, out, described, options, base.config.image_token_id)

    asked = any(example.exchanges for example in options.examples)
    for graph in _graphs(base, options):
        searched = graph.name == 'decoder' and options.bits and asked
        entries[graph.name] = write_graph(graph, out, options, search if searched else None)
        del graph
    manifest = manifest_fields(base, name, entries, options)
    (out / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + '\n')
    return manifest


def _base(model: Any) -> UnifiedMLLMForConditionalGeneration:
    unwrap = getattr(model, 'get_base_model', None)
    return cast(UnifiedMLLMForConditionalGeneration, model if unwrap is None else unwrap())


def _check(model: UnifiedMLLMForConditionalGeneration, options: ExportOptions) -> None:
    if options.precision not in PRECISIONS:
        raise ConfigError(f'precision {options.precision!r}: choose from {", ".join(PRECISIONS)}')
    if options.target not in TARGETS:
        raise ConfigError(f'target {options.target!r}: choose from {", ".join(TARGETS)}')
    if options.examples and options.target != 'onnx':
        raise ConfigError(f'examples for {options.target}: only graphs for onnx are calibrated')
    regions = isinstance(model.config.vision_config, RegionVisionConfig)
    if options.int8_vision and not (options.examples and regions):
        raise ConfigError(
            'convolutions in 8 bits need a region encoder, and examples whose pictures set their '
            'ranges (--calibration)'
        )
    most = model.config.text_config.max_position_embeddings
    if options.max_length is not None and not 0 < options.max_length <= most:
        raise ConfigError(
            f'max_length is {options.max_length}: the language model has {most} positions'
        )


def _graphs(model: UnifiedMLLMForConditionalGeneration, options: ExportOptions) -> Sequence[Graph]:
    return [
        _vision(model, options),
        *([] if model.video_tower is None else [_video(model, options)]),
        *([] if model.audio_tower is None else [_audio(model.audio_tower)]),
        _decoder(model, options),
    ]


def _encoder_precision(
    model: UnifiedMLLMForConditionalGeneration, options: ExportOptions
) -> Precision:
    """Peaks of the region encoder are found by equality: halves would find others."""
    if isinstance(model.config.vision_config, RegionVisionConfig):
        return 'fp32'
    return options.arithmetic


def _vision(model: UnifiedMLLMForConditionalGeneration, options: ExportOptions) -> Graph:
    precision = _encoder_precision(model, options)
    calibrated = options.examples if options.int8_vision else ()
    return Graph(
        'vision',
        _in_precision(VisionGraph(model), precision),
        (torch.rand(2, 3, *image_size(model)),),
        ('pixels',),
        ('features',),
        ({0: torch.export.Dim.DYNAMIC},),
        precision,
        pictures=tuple(example.pixels for example in calibrated),
    )


def _video(model: UnifiedMLLMForConditionalGeneration, options: ExportOptions) -> Graph:
    precision = _encoder_precision(model, options)
    frames = model.config.video_config.frames
    return Graph(
        'video',
        _in_precision(VideoGraph(model), precision),
        (torch.rand(frames, 3, *image_size(model)),),
        ('frames',),
        ('features',),
        precision=precision,
    )


def _audio(tower: AudioTower) -> Graph:
    waves = torch.rand(1, tower.samples)
    return Graph('audio', AudioGraph(tower), (waves,), ('waves',), ('features',))


def _decoder(model: UnifiedMLLMForConditionalGeneration, options: ExportOptions) -> Graph:
    return decoder_graph(model.language_model, options.arithmetic)


def decoder_graph(language_model: nn.Module, precision: Precision = 'fp32') -> Graph:
    """Return what is exported of a causal language model of `transformers`."""
    text: Any = language_model.config
    layers = range(text.num_hidden_layers)
    # Lengths of one would be frozen, and a tensor given twice would be taken for one input.
    shape = (1, text.num_key_value_heads, 13, head_width(text))
    buffers = [[torch.zeros(shape, dtype=_DTYPES[precision]) for _ in layers] for _ in range(2)]
    any_length = torch.export.Dim.DYNAMIC
    inputs = (
        torch.ones(1, 3, dtype=torch.long),
        torch.rand(1, 4, text.hidden_size),
        torch.arange(2, 9).unsqueeze(0),
        torch.tensor([2]),
        torch.ones(13, 13, dtype=torch.bool).tril()[2:9],
        torch.tensor([3, 4]),
        *buffers,
    )
    names = [f'{kind}_{layer}' for kind in ('keys', 'values') for layer in layers]
    capacity = [{2: any_length}] * len(layers)
    return Graph(
        'decoder',
        _in_precision(DecoderGraph(language_model), precision),
        inputs,
        (*DECODER_INPUTS, *names),
        ('logits', *(f'present_{name}' for name in names)),
        (
            {1: any_length},
            {1: any_length},
            {1: any_length},
            {},
            {0: any_length, 1: any_length},
            {0: any_length},
            capacity,
            capacity,
        ),
        precision,
        CACHE_OPSET,
    )


def _in_precision(module: nn.Module, precision: Precision) -> nn.Module:
    if precision == 'fp32':
        return module
    return convert(copy.deepcopy(module), _DTYPES[precision])


def write_graph(
    graph: Graph,
    out: Path,
    options: ExportOptions,
    choose: Callable[[Any], Levels] | None = None,
) -> dict[str, Any]:
    """Write one graph to `out`; returns its entry of the manifest.

    choose: gives the bits of a decoder's matrices where its weights are integers; by default all
    have the same, and the output layer 8.
    """
    language_model = getattr(graph.module, 'language_model', None)
    if language_model is None:
        model = _exported(graph)
    else:
        with exportable(language_model):
            model = _exported(graph)
        text: Any = language_model.config
        heads = Heads(text.num_attention_heads, text.num_key_value_heads)
        simplify(
            model,
            graph.precision,
            head_width(text),
            rotating=heads if options.target == 'onnx' else None,
            # Quantisers choose the bits of each matrix of the model; TensorRT merges on its own.
            merge=options.target == 'onnx' and not options.bits,
        )
    precision, chosen = graph.precision, {}
    if graph.pictures:
        precision, model = 'int8', quantise_convolutions(model, graph.pictures)
    if language_model is not None and options.bits:
        levels = choose(model) if choose else uniform(model, options.bits)
        precision, chosen = options.precision, _named(model, language_model, levels)
        model = quantise(model, levels, options.target)
    if options.half_weights and graph.precision == 'fp32':
        onnx_files.store_half(model)
    paths = onnx_files.save(model, out / f'{graph.name}.onnx', options.external_above)
    return {'precision': precision, 'bits': chosen, **graph_entry(model, paths)}


def _named(model: Any, language_model: nn.Module, levels: Levels) -> dict[str, int]:
    """Return levels by the names that the matrices have in the model, as far as it has any."""
    from onnx import numpy_helper

    linears = {
        name: module.weight.detach()
        for name, module in language_model.named_modules()
        if isinstance(module, nn.Linear)
    }
    found: dict[str, int] = {}
    for node, (_, tensor) in onnx_files.products(model.graph).items():
        if node in levels:
            values = torch.from_numpy(numpy_helper.to_array(tensor).copy())
            names = (
                name
                for name, weight in linears.items()
                if any(torch.equal(weight.to(v.dtype), v) for v in (values.T, values))
            )
            found[next(names, node)] = levels[node]
    return found


@torch.no_grad()
def _exported(graph: Graph) -> Any:
    """Return the ONNX model of a module."""
    import onnx

    program = torch.onnx.export(
        graph.module.eval(),
        graph.inputs,
        dynamo=True,
        opset_version=graph.opset,
        verbose=False,
        input_names=list(graph.input_names),
        output_names=list(graph.output_names),
        dynamic_shapes=graph.shapes,
        custom_translation_table=translations() if graph.opset == CACHE_OPSET else None,
    )
    if program is None:
        raise RuntimeError(f'{graph.name}: the exporter returned no program')
    # By way of a file, or weights beyond 2 GiB could not be taken over.
    with TemporaryDirectory() as folder:
        file = Path(folder) / 'graph.onnx'
        program.save(str(file), external_data=True)
        model = onnx.load(file)
    onnx_files.strip_traces(model)
    return model


def export_mask_network(model: nn.Module, file: Path) -> None:
    """Write the mask network as ONNX, for any number of crops."""
    file.parent.mkdir(parents=True, exist_ok=True)
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    crops = torch.rand(3, 4, CROP, CROP)
    export_graph(model.float(), (crops,), file, ['crops'], ['logits'], shapes)


def export_graph(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    file: Path,
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic_shapes: tuple[Any, ...] | None = None,
) -> Path:
    """Export one module to a single ONNX file with weights stored as float16."""
    names = tuple(input_names), tuple(output_names)
    model = _exported(Graph(file.stem, module, inputs, *names, dynamic_shapes))
    onnx_files.store_half(model, lossy=True)
    onnx_files.save(model, file)
    return file
