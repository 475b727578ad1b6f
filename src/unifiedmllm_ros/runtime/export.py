"""Export to ONNX: the graphs that every accelerated engine runs, and their manifest.

Two graphs. `vision.onnx`: pixels -> visual tokens. `decoder.onnx`: visual tokens and token ids
with a key/value cache -> logits and the grown cache; prefill, decoding and forced tokens are the
same graph. Weights may be stored in float16 and are widened when a session loads: half the file,
the same arithmetic.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from unifiedmllm_ros.model.mask_network import CROP
from unifiedmllm_ros.model.modeling import UnifiedMLLMForConditionalGeneration

FORMAT = 1
OPSET = 20


class VisionGraph(nn.Module):
    """pixels (1, 3, H, W) -> features (1, N, D)."""

    def __init__(self, model: UnifiedMLLMForConditionalGeneration) -> None:
        super().__init__()
        self.tower = model.image_tower
        # The few words as constants, or the whole embedding table would be in this graph too.
        words = model.word_embeddings()
        self.register_buffer('words', None if words is None else words.detach().clone())

    def forward(self, pixels: Tensor) -> Tensor:
        return self.tower(pixels, self.words)


class DecoderGraph(nn.Module):
    """ids (1, T), features (1, F, D), past keys and values (L, 1, H, P, d) -> logits
    (1, F + T, V), present keys and values (L, 1, H, P + F + T, d). Features precede the ids."""

    def __init__(self, model: UnifiedMLLMForConditionalGeneration) -> None:
        super().__init__()
        self.language_model = model.language_model

    def forward(
        self, input_ids: Tensor, features: Tensor, past_k: Tensor, past_v: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        embedded = self.language_model.get_input_embeddings()(input_ids)
        inputs = torch.cat((features, embedded), dim=1)
        past, new = past_k.shape[3], inputs.shape[1]
        position = torch.arange(new, device=inputs.device) + past
        column = torch.arange(past + new, device=inputs.device)
        blocked = column.unsqueeze(0) > position.unsqueeze(1)
        mask = torch.zeros(new, past + new, dtype=inputs.dtype).masked_fill(blocked, -1e9)
        cache = DynamicCache()
        for layer in range(past_k.shape[0]):
            cache.update(past_k[layer], past_v[layer], layer)
        output = self.language_model(
            inputs_embeds=inputs,
            attention_mask=mask[None, None],
            position_ids=position.unsqueeze(0),
            past_key_values=cache,
            use_cache=True,
        )
        layers = cache.layers
        keys = torch.stack([layer.keys for layer in layers])
        values = torch.stack([layer.values for layer in layers])
        return output.logits, keys, values


def export_model(
    model: UnifiedMLLMForConditionalGeneration, name: str, out: Path, half_weights: bool = True
) -> dict[str, Any]:
    """Write both graphs and manifest.json to `out`; returns the manifest."""
    out.mkdir(parents=True, exist_ok=True)
    model = model.eval().float()
    files = {'vision': _export_vision(model, out), 'decoder': _export_decoder(model, out)}
    if half_weights:
        for file in files.values():
            store_half(file)
    manifest = _manifest(model, name, files)
    (out / 'manifest.json').write_text(json.dumps(manifest, indent=2) + '\n')
    return manifest


def _export_vision(model: UnifiedMLLMForConditionalGeneration, out: Path) -> Path:
    height, width = model.config.vision_config.image_size
    return export_graph(
        VisionGraph(model),
        (torch.rand(1, 3, height, width),),
        out / 'vision.onnx',
        ['pixels'],
        ['features'],
    )


def _export_decoder(model: UnifiedMLLMForConditionalGeneration, out: Path) -> Path:
    text = model.config.text_config
    head = text.hidden_size // text.num_attention_heads
    past = torch.rand(text.num_hidden_layers, 1, text.num_key_value_heads, 5, head)
    ids = torch.ones(1, 3, dtype=torch.long)
    # Four visual tokens stand for any number of them: dimensions of one would be frozen.
    features = torch.rand(1, 4, text.hidden_size)
    dim = torch.export.Dim
    shapes = (
        {1: dim.DYNAMIC},
        {1: dim.DYNAMIC},
        {3: dim.DYNAMIC},
        {3: dim.DYNAMIC},
    )
    return export_graph(
        DecoderGraph(model),
        (ids, features, past, past.clone()),
        out / 'decoder.onnx',
        ['input_ids', 'features', 'past_k', 'past_v'],
        ['logits', 'present_k', 'present_v'],
        dynamic_shapes=shapes,
    )


def export_mask_network(model: nn.Module, file: Path) -> None:
    """Write the mask network as ONNX, for any number of crops."""
    file.parent.mkdir(parents=True, exist_ok=True)
    export_graph(
        model.float(),
        (torch.rand(3, 4, CROP, CROP),),
        file,
        ['crops'],
        ['logits'],
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
    )
    store_half(file)


@torch.no_grad()
def export_graph(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    file: Path,
    input_names: list[str],
    output_names: list[str],
    **options: Any,
) -> Path:
    """Export one module to a single ONNX file."""
    program = torch.onnx.export(
        module.eval(),
        inputs,
        dynamo=True,
        opset_version=OPSET,
        verbose=False,
        input_names=input_names,
        output_names=output_names,
        **options,
    )
    if program is None:
        raise RuntimeError(f'{file.name}: the exporter returned no program')
    program.save(str(file), external_data=False)
    strip_traces(file)
    return file


def strip_traces(file: Path) -> None:
    """Drop the exporter's stack traces: they hold the paths of the machine that exported."""
    import onnx

    model = onnx.load(file)
    for graph in (model.graph, *model.functions):
        for part in (*graph.node, *graph.value_info):
            del part.metadata_props[:]
            part.doc_string = ''
    for part in (model, model.graph, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    onnx.save(model, file)


def store_half(file: Path) -> None:
    """Store the large float32 weights of an ONNX file as float16 with a cast after each."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(file)
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or _size(tensor) < 4096:
            continue
        name = tensor.name
        half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype('float16'))
        tensor.CopyFrom(half)
        tensor.name = f'{name}_half'
        casts.append(helper.make_node('Cast', [tensor.name], [name], to=TensorProto.FLOAT))
    for node in reversed(casts):
        graph.node.insert(0, node)
    onnx.save(model, file)


def _size(tensor: Any) -> int:
    size = 1
    for dimension in tensor.dims:
        size *= dimension
    return size


def _manifest(
    model: UnifiedMLLMForConditionalGeneration, name: str, files: dict[str, Path]
) -> dict[str, Any]:
    import onnx
    import transformers

    text = model.config.text_config
    return {
        'format': FORMAT,
        'model': name,
        'graphs': {key: _graph_entry(file) for key, file in files.items()},
        'layers': text.num_hidden_layers,
        'kv_heads': text.num_key_value_heads,
        'head_dim': text.hidden_size // text.num_attention_heads,
        'hidden': text.hidden_size,
        'vocab': text.vocab_size,
        'image_size': list(model.config.vision_config.image_size),
        'visual_tokens': model.config.visual_tokens,
        'precision': 'fp32',
        'versions': {
            'torch': torch.__version__.split('+')[0],
            'transformers': transformers.__version__,
            'onnx': onnx.__version__,
        },
    }


def _graph_entry(file: Path) -> dict[str, Any]:
    import onnx

    graph = onnx.load(file).graph
    names: Callable[[Any], list[str]] = lambda values: [value.name for value in values]  # noqa: E731
    return {
        'file': file.name,
        'bytes': file.stat().st_size,
        'sha256': hashlib.sha256(file.read_bytes()).hexdigest(),
        'inputs': names(graph.input),
        'outputs': names(graph.output),
    }
