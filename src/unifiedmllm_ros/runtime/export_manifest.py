"""What an export says of itself: the fields of manifest.json."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from unifiedmllm_ros.model.modeling import UnifiedMLLMForConditionalGeneration
from unifiedmllm_ros.runtime import onnx_files
from unifiedmllm_ros.runtime.export_options import ExportOptions
from unifiedmllm_ros.runtime.manifest import DEFAULT_LENGTH, FORMAT, file_sha256

_PACKAGES = ('torch', 'transformers', 'onnx', 'onnxscript', 'onnxruntime', 'peft')


def manifest_fields(
    model: UnifiedMLLMForConditionalGeneration,
    name: str,
    graphs: dict[str, Any],
    options: ExportOptions,
) -> dict[str, Any]:
    """Return the manifest of a model whose graphs have these entries."""
    text, config = model.config.text_config, model.config
    video, audio = config.video_config, model.audio_tower
    return {
        'format': FORMAT,
        'model': name,
        'graphs': graphs,
        'layers': text.num_hidden_layers,
        'kv_heads': text.num_key_value_heads,
        'head_dim': head_width(text),
        'hidden': text.hidden_size,
        'vocab': text.vocab_size,
        'image_size': list(image_size(model)),
        'visual_tokens': config.visual_tokens,
        'video': None if video is None else {'frames': video.frames, 'tokens': video.tokens},
        'audio': None
        if audio is None
        else {'samples': audio.samples, 'rate': audio.settings.rate, 'tokens': audio.tokens},
        'max_length': options.max_length or min(DEFAULT_LENGTH, text.max_position_embeddings),
        'precision': options.precision,
        'cache': options.arithmetic,
        'target': options.target,
        'versions': versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions of what the export went through."""
    found = {'python': platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package).split('+')[0]
        except metadata.PackageNotFoundError:
            continue
    return found


def graph_entry(model: Any, paths: Sequence[Path]) -> dict[str, Any]:
    """Describe a written graph for the manifest; the weights' file, if any, comes second."""
    inputs = onnx_files.tensors(model.graph.input)
    outputs = onnx_files.tensors(model.graph.output)
    graph, *weights = [
        {'file': path.name, 'bytes': path.stat().st_size, 'sha256': file_sha256(path)}
        for path in paths
    ]
    return {
        **graph,
        'weights': weights[0] if weights else None,
        'inputs': list(inputs),
        'outputs': list(outputs),
        'types': {name: kind for name, (kind, _) in {**inputs, **outputs}.items()},
        'shapes': {name: list(shape) for name, (_, shape) in {**inputs, **outputs}.items()},
    }


def head_width(text: Any) -> int:
    """Return the width of an attention head of a language model's configuration."""
    return int(getattr(text, 'head_dim', None) or text.hidden_size // text.num_attention_heads)


def image_size(model: UnifiedMLLMForConditionalGeneration) -> tuple[int, int]:
    """Return height and width of the pixels that a model takes."""
    size = model.config.vision_config.image_size
    return (size, size) if isinstance(size, int) else (size[0], size[1])
