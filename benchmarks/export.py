"""Exported graphs of tabletop-nano against torch: numbers, whole answers, and the task's measure.

The sample set is 25 frames of the sample recording with all of its questions. The measure is the
share of wanted boxes that are found (IoU 0.5 or more), and whether nothing is said of what is not
there. Scenes of the training split, rendered at the first run, say which matrices keep more bits
and set the ranges of the vision graph in 8 bits. A run that was stopped goes on with the row that
it was at.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.frames import sample_recording
from benchmarks.state import state
from unifiedmllm_ros.evaluation.metrics import matched_ious
from unifiedmllm_ros.evaluation.sample_questions import sample_questions
from unifiedmllm_ros.locations import model_folder
from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor
from unifiedmllm_ros.representation import parse
from unifiedmllm_ros.runtime import export_check
from unifiedmllm_ros.runtime.calibration import PICTURES, read_examples
from unifiedmllm_ros.runtime.onnx_engine import OnnxEngine

MODEL: Final = 'tabletop-nano'
ROWS: Final[dict[str, dict[str, Any]]] = {
    'fp32': {},
    'fp16': {'precision': 'fp16'},
    'int8': {'precision': 'int8'},
    'int4': {'precision': 'int4'},
    'fp32, vision int8': {'int8_vision': True},
}
FRAMES: Final = 25
CACHE: Final = Path(__file__).parents[1] / '.cache' / 'bench' / 'export'


def run() -> dict[str, Any]:
    """Export in each precision and compare."""
    from unifiedmllm_ros.model.modeling import UnifiedMLLMForConditionalGeneration
    from unifiedmllm_ros.runtime.torch_engine import TorchEngine

    folder = model_folder(MODEL)
    kept = CACHE / state(*sorted(folder.glob('*.safetensors')))
    model = UnifiedMLLMForConditionalGeneration.from_pretrained(folder).float()
    samples, reference = sample_questions(FRAMES), TorchEngine(model, MODEL)
    expected = _once(kept / 'torch', lambda: export_check.answers(reference, folder, samples))
    examples = read_examples(_scenes(), UnifiedMLLMProcessor.from_pretrained(folder))

    def row(name: str) -> dict[str, Any]:
        given = {**ROWS[name], 'examples': examples if _calibrated(ROWS[name]) else ()}
        return _row(model, reference, samples, expected, given)

    rows = {name: _once(kept / name, partial(row, name)) for name in ROWS}
    for file in kept.glob('*.json'):  # the next run measures anew
        file.unlink()
    return {
        'what': 'answers of exported graphs that equal those of torch, character by character; '
        f'near: but for coordinates that differ by {export_check.NEAR} at most',
        'model': MODEL,
        'samples': len(samples),
        'torch_measure_points': round(measure(expected), 2),
        'precisions': rows,
    }


def _calibrated(options: dict[str, Any]) -> bool:
    return bool(options.get('int8_vision')) or options.get('precision') in ('int8', 'int4')


def _row(
    model: Any,
    reference: Any,
    samples: Sequence[Any],
    expected: list[str],
    options: dict[str, Any],
) -> dict[str, Any]:
    from unifiedmllm_ros.runtime.export import export_model

    with TemporaryDirectory() as name:
        out, started = Path(name), time.perf_counter()
        export_model(model, MODEL, out, **options)
        seconds = round(time.perf_counter() - started, 1)
        engine = OnnxEngine.load(out, threads=2)
        report = export_check.compare_numbers(engine, reference, engine.manifest)
        said = export_check.answers(engine, model_folder(MODEL), samples)
        bits = Counter(engine.manifest.graphs['decoder'].bits.values())
        return {
            **export_check.with_answers(report, said, expected).as_json(),
            'measure_points': round(measure(said), 2),
            'mebibytes': round(engine.manifest.weights_bytes / 2**20, 1),
            'matrices_by_bits': {str(width): bits[width] for width in sorted(bits)},
            'export_seconds': seconds,
        }


def _once(place: Path, make: Callable[[], Any]) -> Any:
    """Return what an earlier run that was stopped has left, else make it."""
    file = place.with_suffix('.json')
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix('.part')
        unfinished.write_text(json.dumps(make()))
        unfinished.rename(file)
    return json.loads(file.read_text())


def _scenes() -> Path:
    """Scenes of the training split with conversations about them."""
    from unifiedmllm_ros.cli import main

    folder = CACHE / 'scenes'
    if not (folder / 'conversations.jsonl').is_file():
        words = ['data', 'tabletop', '--count', str(PICTURES), '--split', 'train']
        if main([*words, '--out', str(folder)]):
            raise RuntimeError('the training scenes could not be made')
    return folder


def measure(answers: list[str]) -> float:
    """Share of right answers in points of 100: of wanted boxes, and of absent things."""
    recording = sample_recording()
    questions = recording.questions
    stride = len(recording.frames) // FRAMES
    hits: list[bool] = []
    for place, answer in enumerate(answers):
        truth = recording.truth(place // len(questions) * stride)
        question = questions[place % len(questions)]
        wanted = [truth.boxes[name] for name in question.objects if name in truth.boxes]
        said = [box for region in parse(answer)[0].regions for box in region.boxes]
        ious = matched_ious(wanted, said)
        hits += [iou >= 0.5 for iou in ious] if wanted else [not said]
    return 100 * sum(hits) / len(hits)
