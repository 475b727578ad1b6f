"""Exported graphs of tabletop-nano against torch: numbers, whole answers, and the task's measure.

The sample set is 25 frames of the sample recording with all of its questions. The measure is the
share of wanted boxes that are found (IoU 0.5 or more), and whether nothing is said of what is not
there.
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.frames import sample_recording
from unifiedmllm_ros.evaluation.metrics import matched_ious
from unifiedmllm_ros.evaluation.sample_questions import sample_questions
from unifiedmllm_ros.locations import model_folder
from unifiedmllm_ros.representation import parse
from unifiedmllm_ros.runtime import export_check
from unifiedmllm_ros.runtime.onnx_engine import OnnxEngine

MODEL = 'tabletop-nano'
PRECISIONS = ('fp32', 'fp16', 'int8', 'int4')
FRAMES = 25


def run() -> dict[str, Any]:
    """Export in each precision and compare."""
    from unifiedmllm_ros.model.modeling import UnifiedMLLMForConditionalGeneration
    from unifiedmllm_ros.runtime.export import export_model
    from unifiedmllm_ros.runtime.torch_engine import TorchEngine

    folder = model_folder(MODEL)
    model = UnifiedMLLMForConditionalGeneration.from_pretrained(folder).float()
    samples = sample_questions(FRAMES)
    reference = TorchEngine(model, MODEL)
    expected = export_check.answers(reference, folder, samples)
    rows: dict[str, Any] = {}
    for precision in PRECISIONS:
        with TemporaryDirectory() as name:
            out, started = Path(name), time.perf_counter()
            export_model(model, MODEL, out, precision=precision)  # type: ignore[arg-type]
            seconds = round(time.perf_counter() - started, 1)
            engine = OnnxEngine.load(out, threads=2)
            report = export_check.compare_numbers(engine, reference, engine.manifest)
            said = export_check.answers(engine, folder, samples)
            rows[precision] = {
                **export_check.with_answers(report, said, expected).as_json(),
                'measure_points': round(measure(said), 2),
                'mebibytes': round(engine.manifest.weights_bytes / 2**20, 1),
                'export_seconds': seconds,
            }
    return {
        'what': 'answers of exported graphs that equal those of torch, character by character',
        'model': MODEL,
        'samples': len(samples),
        'torch_measure_points': round(measure(expected), 2),
        'precisions': rows,
    }


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
