"""Our runtime against `generate()` of transformers in torch: same model, frames, questions.

Both answer from the picture: preprocessing, vision encoder, decoding. The experts are left out,
for they are the same on both sides. The two sides take turns question by question, so that a busy
machine slows both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.frames import percentiles, sample_frames, sample_recording
from unifiedmllm_ros.locations import model_folder
from unifiedmllm_ros.perception import Perceiver
from unifiedmllm_ros.runtime.unified import UnifiedModel

FRAMES = 12
THREADS = 2
MAX_TOKENS = 256

Ask = Callable[[NDArray[np.uint8], str], str]


def run() -> dict[str, Any]:
    """Time both sides and count equal answers."""
    return {
        'what': 'picture and question to answer text; onnxruntime against transformers generate()',
        'threads': THREADS,
        **race({'ours': ours(), 'transformers': transformers()}, FRAMES),
    }


def race(sides: Mapping[str, Ask], count: int) -> dict[str, Any]:
    """Ask all sides, ours first, the recording's questions about `count` frames in turn.

    Gives for each other side how much faster ours is, and its share of equal answers; for the last
    side also at the top.
    """
    frames = sample_frames(count)
    instructions = [question.instruction for question in sample_recording().questions]
    for instruction in instructions:  # whatever a side sets up for new shapes
        for ask in sides.values():
            ask(frames[0], instruction)
    times: dict[str, list[float]] = {name: [] for name in sides}
    equal = dict.fromkeys(sides, 0)
    for frame in frames:
        for instruction in instructions:
            answers = {
                name: _timed(ask, frame, instruction, times[name]) for name, ask in sides.items()
            }
            for name, answer in answers.items():
                equal[name] += answer == answers['ours']
    against = {name: _comparison(times, equal, name) for name in sides if name != 'ours'}
    return {
        'questions': count * len(instructions),
        'ours_ms': percentiles(times['ours']),
        **{f'{name}_ms': percentiles(times[name]) for name in against},
        'against': against,
        **list(against.values())[-1],
    }


def _timed(ask: Ask, frame: NDArray[np.uint8], instruction: str, times: list[float]) -> str:
    start = time.perf_counter()
    answer = ask(frame, instruction)
    times.append((time.perf_counter() - start) * 1000)
    return answer


def _comparison(
    times: Mapping[str, list[float]], equal: Mapping[str, int], name: str
) -> dict[str, float]:
    mine, other = times['ours'], times[name]
    return {
        'equal_answers': equal[name] / len(mine),
        'speedup_p50': round(float(np.median(other) / np.median(mine)), 2),
        'speedup_total': round(sum(other) / sum(mine), 2),
    }


def ours(speculate: bool = True, folder: Path | None = None) -> Ask:
    """Our runtime as the perception node uses it, or without drafts, or with other graphs."""
    folder = folder or model_folder('tabletop-nano')
    perceiver = Perceiver(UnifiedModel.load(folder, threads=THREADS, speculate=speculate))

    def ask(frame: NDArray[np.uint8], instruction: str) -> str:
        perceiver.set_image(frame)
        return perceiver.ask(instruction, execute=False).text

    return ask


def transformers(compiled: bool = False) -> Ask:
    """generate() of transformers; compiled: by torch.compile, with a static cache."""
    import torch
    from transformers import CompileConfig

    from unifiedmllm_ros.model.modeling import UnifiedMLLMForConditionalGeneration
    from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor

    torch.set_num_threads(THREADS)
    folder = model_folder('tabletop-nano')
    processor = UnifiedMLLMProcessor.from_pretrained(folder)
    model: Any = UnifiedMLLMForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation='sdpa' if compiled else 'eager'
    ).eval()
    options: dict[str, Any] = {}
    if compiled:
        model.image_tower = torch.compile(model.image_tower)
        compilation = CompileConfig(mode='default')
        compilation._compile_all_devices = True  # generate() leaves the CPU out otherwise
        options = {'cache_implementation': 'static', 'compile_config': compilation}

    def ask(frame: NDArray[np.uint8], instruction: str) -> str:
        ids = torch.tensor([processor.encode_conversation([(instruction, None)])])
        made = model.generate(
            input_ids=ids,
            pixel_values=torch.from_numpy(processor.pixels(frame)),
            max_new_tokens=MAX_TOKENS,
            do_sample=False,
            **options,
        )
        return processor.decode(made[0, ids.shape[1] :].tolist())

    return ask
