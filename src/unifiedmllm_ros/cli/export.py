"""`unifiedmllm export`: write a model's ONNX graphs."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument('model', help='name or folder of a model with its safetensors')
    parser.add_argument('--out', type=Path, help='folder of the graphs (default: MODEL/onnx)')
    parser.add_argument(
        '--full-weights',
        action='store_true',
        help='store weights in float32; by default they take half the space, as float16',
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Load the model, export it, say what was written."""
    from unifiedmllm_ros.errors import MissingExtraError, ModelFileError
    from unifiedmllm_ros.locations import model_folder

    folder = model_folder(args.model)
    if not (folder / 'config.json').is_file():
        raise ModelFileError(f'{folder} holds no config.json: give the folder of a trained model')
    try:
        from unifiedmllm_ros.model.modeling import UnifiedMLLMForConditionalGeneration
        from unifiedmllm_ros.runtime.export import export_model
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'the export needs {error.name}; run: pip install "unifiedmllm_ros[train,export]"'
        ) from error
    model = UnifiedMLLMForConditionalGeneration.from_pretrained(folder)
    out = args.out or folder / 'onnx'
    manifest = export_model(model, folder.name, out, half_weights=not args.full_weights)
    for name, graph in manifest['graphs'].items():
        print(f'{name}: {out / graph["file"]} ({graph["bytes"] / 2**20:.1f} MiB)')
    return 0
