"""The runtime against what users would pick instead; both sides of a row in one run.

Two threads everywhere. A GPU has a measurement of its own, `gpu`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from benchmarks import smollm2
from benchmarks.frames import percentiles, sample_frames, sample_recording
from benchmarks.race import Side, race
from benchmarks.timed_engine import TimedEngine, medians, parts
from benchmarks.transformers_eager import THREADS, ours, transformers
from unifiedmllm_ros.errors import UnifiedMLLMError
from unifiedmllm_ros.locations import model_folder
from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor
from unifiedmllm_ros.perception import Answer, Perceiver, Request
from unifiedmllm_ros.runtime.manifest import Manifest
from unifiedmllm_ros.runtime.onnx_engine import OnnxEngine
from unifiedmllm_ros.runtime.unified import UnifiedModel

FRAMES = 6
SHARED_FRAMES = 6
CAMERAS = 4
STARTS = 5
ENCODINGS = 40
STEPS = (1, 4, 12, 24, 48, 96, 240)
MORE_QUESTIONS = (
    'find the plate',
    'where is the milk?',
    'how many bowls are there?',
    'is there a book on the table?',
)
"""With the recording's six these are ten."""
_FIRST_ANSWER = """
import sys
import cv2
from unifiedmllm_ros.model.protocol import Conversation
from unifiedmllm_ros.runtime.unified import UnifiedModel
model = UnifiedModel.load(sys.argv[1], threads=int(sys.argv[2]))
features = model.encode(cv2.imread(sys.argv[3], cv2.IMREAD_COLOR_RGB))
question = Conversation('segment the red mug')
print(''.join(chunk.text for chunk in model.stream(features, question)))
"""


def run() -> dict[str, Any]:
    """Measure all rows."""
    return {
        'what': 'the runtime against transformers, llama.cpp and itself',
        'threads': THREADS,
        'question_to_answer': question_to_answer(),
        'question_to_answer_fp32': question_to_answer_fp32(),
        'third_stage': third_stage(),
        'questions_about_one_frame': shared_frame(),
        'questions_of_several_cameras': cameras(),
        'start_to_first_answer': first_answer(),
        'encoder_threads_ms': encoder_threads(),
        'decoder_threads_ms': decoder_threads(),
        'smollm2': smollm2.run(THREADS),
    }


def question_to_answer() -> dict[str, Any]:
    """A new frame and a question that was asked about earlier frames too, to the answer."""
    sides: dict[str, Side] = {
        'ours': ours,
        'ours_without_drafts': partial(ours, speculate=False),
        'transformers_eager': transformers,
        'transformers_compiled': partial(transformers, compiled=True),
    }
    return race(sides, FRAMES)


def question_to_answer_fp32() -> dict[str, Any]:
    """The same with all arithmetic in float32, as generate() has it."""
    with TemporaryDirectory() as name:
        sides: dict[str, Side] = {
            'ours': partial(ours, folder=_exported(Path(name), adapter=True)),
            'transformers_eager': transformers,
        }
        return race(sides, FRAMES)


def third_stage() -> dict[str, Any]:
    """What LoRAMoE costs: the model with it and without, both in float32."""
    with TemporaryDirectory() as name:
        sides: dict[str, Side] = {
            'ours': partial(ours, folder=_exported(Path(name) / 'whole', adapter=True)),
            'without': partial(ours, folder=_exported(Path(name) / 'base', adapter=False)),
        }
        return race(sides, FRAMES)


def _exported(folder: Path, adapter: bool) -> Path:
    """Copy the shipped model with graphs in float32, with its third stage or without."""
    from unifiedmllm_ros.runtime.export import export_model
    from unifiedmllm_ros.training.results import load_result

    shipped = model_folder('tabletop-nano')
    shutil.copytree(shipped, folder, ignore=shutil.ignore_patterns('onnx'), dirs_exist_ok=True)
    export_model(load_result(shipped, adapter).model, 'tabletop-nano', folder / 'onnx')
    return folder


def shared_frame() -> dict[str, Any]:
    """Ten questions about a frame, asked together, against ten runs that share only the model.

    A run that is by itself knows no earlier answer to draft from. `in_turn` has a harder opponent:
    one perceiver that answers one by one and drafts as the other does, from frames before.
    `without_drafts`: neither side drafts, so that nothing but sharing the frame is left. Both sides
    look at the frame within the time that is taken: once, and once a question.
    """
    questions = [question.instruction for question in sample_recording().questions]
    questions = [*questions, *MORE_QUESTIONS][:10]
    frames = sample_frames(SHARED_FRAMES + 1)
    rounds = [[(frame, question) for question in questions] for frame in frames]
    return {
        **together(rounds, drafts=(True, False)),
        'in_turn': together(rounds),
        'without_drafts': together(rounds, drafts=(False, False)),
    }


def cameras() -> dict[str, Any]:
    """One question to each of several cameras, asked together, against one after the other."""
    question = sample_recording().questions[0].instruction
    frames = sample_frames(SHARED_FRAMES + 1 + CAMERAS)
    rounds = [frames[start : start + CAMERAS] for start in range(SHARED_FRAMES + 1)]
    return together([[(frame, question) for frame in views] for views in rounds])


def together(
    rounds: list[list[tuple[Any, str]]], drafts: tuple[bool, bool] = (True, True)
) -> dict[str, Any]:
    """Time questions asked together and one by one, each side with a perceiver of its own.

    drafts: whether the side that asks together drafts from its answers of earlier rounds, and
    whether the other does. The sides take turns round by round.
    """
    folder = model_folder('tabletop-nano')
    engines = [TimedEngine(OnnxEngine.load(folder / 'onnx', threads=THREADS)) for _ in range(2)]
    processor = UnifiedMLLMProcessor.from_pretrained(folder)
    models = [
        UnifiedModel(engine, processor, speculate=draft)
        for engine, draft in zip(engines, drafts, strict=True)
    ]
    shared, single = (Perceiver(model) for model in models)
    where: list[dict[str, float]] = []
    times: dict[str, list[float]] = {'shared': [], 'separate': []}
    equal = count = 0
    for asked in rounds:
        engines[0].clear()
        start = time.perf_counter()
        requests = [Request(question, image=image, execute=False) for image, question in asked]
        answers = dict(shared.ask_all(requests))
        middle = time.perf_counter()
        alone = [_alone(single, image, question) for image, question in asked]
        times['shared'].append((middle - start) * 1000)
        where.append(parts(engines[0], times['shared'][-1]))
        times['separate'].append((time.perf_counter() - middle) * 1000)
        equal += sum(_text(answers[place]) == text for place, text in enumerate(alone))
        count += len(alone)
    for values in times.values():
        del values[0]  # what is set up once
    return {
        'questions': len(rounds[0]),
        **{f'{name}_ms': percentiles(values) for name, values in times.items()},
        'shared_parts_ms': medians(where[1:]),
        'speedup_p50': round(float(np.median(times['separate']) / np.median(times['shared'])), 2),
        'equal_answers': equal / count,
        'passes': {
            name: round(model.counts.passes / len(rounds), 1)
            for name, model in zip(times, models, strict=True)
        },
        'reuse_rate': round(models[0].counts.reuse_rate, 3),
    }


def first_answer() -> dict[str, Any]:
    """Seconds from the start of a Python process to its first answer, its files read before."""
    with TemporaryDirectory() as folder:
        image = Path(folder) / 'frame.png'
        cv2.imwrite(str(image), sample_frames(1)[0][:, :, ::-1])
        words = [str(model_folder('tabletop-nano')), str(THREADS), str(image)]
        seconds = []
        for _ in range(STARTS + 1):
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, '-c', _FIRST_ANSWER, *words], check=True, stdout=subprocess.DEVNULL
            )
            seconds.append(time.perf_counter() - start)
    return {'starts': STARTS, 'seconds_p50': round(float(np.median(seconds[1:])), 2)}


def encoder_threads() -> dict[str, Any]:
    """The vision graph alone, by threads and by how long idle ones look for work before they sleep.

    The runtime's look while a graph runs: between runs they would take the cores from others.
    """
    from unifiedmllm_ros.runtime.onnx_session import PROVIDERS, onnxruntime

    runtime, folder = onnxruntime(), model_folder('tabletop-nano') / 'onnx'
    manifest = Manifest.load(folder)
    settings = {
        'one': (1, '0', '0'),
        'two_sleeping': (2, '0', '0'),
        'two_looking_50_us': (2, '1', '50'),
        'two_looking': (2, '1', '1000'),
    }
    sessions = {}
    for name, (threads, looking, microseconds) in settings.items():
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.enable_mem_pattern = threads, False
        options.add_session_config_entry('session.intra_op.allow_spinning', looking)
        options.add_session_config_entry('session.intra_op.spin_duration_us', microseconds)
        options.add_session_config_entry('session.force_spinning_stop', '1')
        file = str(manifest.graph(folder, 'vision'))
        sessions[name] = runtime.InferenceSession(file, options, providers=[PROVIDERS['cpu']])
    pixels = np.random.default_rng(0).random((1, 3, *manifest.image_size), np.float32)
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(ENCODINGS):
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(None, {'pixels': pixels})
            times[name].append((time.perf_counter() - start) * 1000)
    return {name: percentiles(values[1:]) for name, values in times.items()}


def decoder_threads() -> dict[str, Any]:
    """Steps of the decoder by their positions, behind forty others, on one thread and on two."""
    from unifiedmllm_ros.runtime.engine import Row
    from unifiedmllm_ros.runtime.onnx_decoder import OnnxDecoder
    from unifiedmllm_ros.runtime.onnx_session import SessionOptions, open_session

    folder = model_folder('tabletop-nano') / 'onnx'
    manifest = Manifest.load(folder)
    file = manifest.graph(folder, 'decoder')
    decoders = {
        name: OnnxDecoder(open_session(file, SessionOptions('cpu', threads)), manifest, 'cpu')
        for threads, name in enumerate(('one', 'two'), start=1)
    }
    times: dict[int, dict[str, list[float]]] = {new: {} for new in STEPS}
    for _ in range(ENCODINGS):
        for new, by_name in times.items():
            for name, decoder in decoders.items():
                cache = decoder.new_cache()
                decoder.step([Row([1] * 40, cache, last=1)])
                start = time.perf_counter()
                decoder.step([Row([2] * new, cache, last=1)])
                by_name.setdefault(name, []).append((time.perf_counter() - start) * 1000)
    return {
        str(new): {name: round(float(np.median(values)), 2) for name, values in by_name.items()}
        for new, by_name in times.items()
    }


def _alone(perceiver: Perceiver, image: Any, question: str) -> str:
    perceiver.set_image(image)
    return perceiver.ask(question, execute=False).text


def _text(answer: Answer | UnifiedMLLMError) -> str:
    if isinstance(answer, UnifiedMLLMError):
        raise answer
    return answer.text
