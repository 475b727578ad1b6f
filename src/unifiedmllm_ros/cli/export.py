"""`unifiedmllm export`: write a model's graphs, and the engines of a GPU."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

PRECISIONS = ('fp32', 'fp16', 'bf16', 'int8', 'int4')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument('model', help='name or folder of a model with its safetensors')
    parser.add_argument(
        '--to',
        choices=('onnx', 'tensorrt'),
        default='onnx',
        help='tensorrt: graphs in its form, and engines for this GPU or for --capability',
    )
    parser.add_argument(
        '--precision',
        choices=PRECISIONS,
        help='arithmetic, or bits of the weights (default: fp32 for onnx, fp16 for tensorrt)',
    )
    parser.add_argument('--out', type=Path, help='folder of the graphs (default: in the model)')
    parser.add_argument('--adapter', type=Path, help='folder of a LoRAMoE adapter to attach')
    parser.add_argument('--max-length', type=int, help='positions of the longest sequence')
    parser.add_argument(
        '--full-weights',
        action='store_true',
        help='store float32 weights as they are; by default they take half the space',
    )
    parser.add_argument(
        '--calibration',
        type=Path,
        metavar='DIR',
        help='folder with conversations.jsonl of the training split: with int8 or int4 its '
        'questions decide which matrices keep more bits (a few minutes), with --int8-vision its '
        'pictures set the ranges',
    )
    parser.add_argument(
        '--int8-vision',
        action='store_true',
        help='convolutions of a region encoder in 8 bits (needs --calibration)',
    )
    parser.add_argument(
        '--check',
        action='store_true',
        help='compare with torch: numbers, and answers about the sample recording',
    )
    parser.add_argument(
        '--capability',
        action='append',
        help='compute capability to build for, such as 8.9; may be repeated (needs tensorrt_rtx)',
    )
    parser.add_argument(
        '--rebuild', action='store_true', help='replace engines that are stale or damaged'
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Load the model, export it, say what was written; 1 where a check fails."""
    from unifiedmllm_ros.errors import MissingExtraError, ModelFileError
    from unifiedmllm_ros.locations import model_folder
    from unifiedmllm_ros.runtime.backends import graphs_folder

    folder = model_folder(args.model)
    if not any((folder / name).is_file() for name in ('config.json', 'base.json')):
        raise ModelFileError(f'{folder} holds no config.json: give the folder of a trained model')
    try:
        from unifiedmllm_ros.runtime.export import export_model
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'the export needs {error.name}; run: pip install "unifiedmllm_ros[train,export]"'
        ) from error
    precision: Any = args.precision or ('fp32' if args.to == 'onnx' else 'fp16')
    out = args.out or graphs_folder(folder, args.to, precision)
    model = _model(folder, args.adapter)
    manifest = export_model(
        model,
        folder.name,
        out,
        half_weights=not args.full_weights,
        precision=precision,
        target=args.to,
        max_length=args.max_length,
        examples=_examples(folder, args.calibration),
        int8_vision=args.int8_vision,
    )
    for name, graph in manifest['graphs'].items():
        size = graph['bytes'] + (graph['weights'] or {'bytes': 0})['bytes']
        print(f'{name}: {out / graph["file"]} ({size / 2**20:.1f} MiB, {graph["precision"]})')
    if args.to == 'tensorrt':
        _build(out, args)
    return _check(model, folder, out) if args.check else 0


def _model(folder: Path, adapter: Path | None) -> Any:
    from unifiedmllm_ros.training.results import load_to_run

    model = load_to_run(folder).model
    if adapter is None:
        return model
    from peft import PeftModel

    import unifiedmllm_ros.model.loramoe  # noqa: F401 registers the method

    return PeftModel.from_pretrained(model, str(adapter))


def _examples(folder: Path, calibration: Path | None) -> Any:
    if calibration is None:
        return ()
    from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor
    from unifiedmllm_ros.runtime.calibration import read_examples

    return read_examples(calibration, UnifiedMLLMProcessor.from_pretrained(folder))


def _build(out: Path, args: argparse.Namespace) -> None:
    from unifiedmllm_ros.runtime.engine_cache import EngineCache
    from unifiedmllm_ros.runtime.tensorrt_plans import Plans, capabilities

    for capability in capabilities(args.capability):
        plans = Plans(out, EngineCache.open(), capability, print)
        for graph in plans.manifest.graphs:
            plans.get(graph, rebuild=args.rebuild)


def _check(model: Any, folder: Path, out: Path) -> int:
    from unifiedmllm_ros.evaluation.sample_questions import sample_questions
    from unifiedmllm_ros.runtime import export_check
    from unifiedmllm_ros.runtime.backends import check_engine
    from unifiedmllm_ros.runtime.torch_engine import TorchEngine

    ours, reference = check_engine(out), TorchEngine(model, folder.name)
    report = export_check.compare_numbers(ours, reference, ours.manifest)
    samples = sample_questions()
    report = export_check.with_answers(
        report,
        export_check.answers(ours, folder, samples),
        export_check.answers(reference, folder, samples),
    )
    export_check.write_report(out, report)
    for name, difference in report.differences.items():
        print(f'{name}: differs from torch by {difference:.2g} (of {report.scale[name]:.2g})')
    print(
        f'{report.equal:.1%} of {report.answers} answers equal, {report.required:.0%} required; '
        f'{report.near:.1%} up to {export_check.NEAR} in coordinates'
    )
    return 0 if report.passed else 1
