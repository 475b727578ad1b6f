"""Our runtime against `generate()` of transformers in eager torch: same model, frames, questions.

Both answer from the picture: preprocessing, vision encoder, decoding. The experts are left out,
for they are the same on both sides. The two sides take turns question by question, so that a busy
machine slows both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.frames import percentiles, sample_frames, sample_recording
from unifiedmllm_ros.locations import model_folder
from unifiedmllm_ros.perception import Perceiver

FRAMES = 12
THREADS = 2
MAX_TOKENS = 256

Ask = Callable[[NDArray[np.uint8], str], str]


def run() -> dict[str, Any]:
    """Time both sides and count equal answers."""
    ours, theirs = _ours(), _transformers()
    frames = sample_frames(FRAMES)
    instructions = [question.instruction for question in sample_recording().questions]
    for ask in (ours, theirs):
        ask(frames[0], instructions[0])
    times: dict[str, list[float]] = {'ours': [], 'transformers': []}
    equal = 0
    for frame in frames:
        for instruction in instructions:
            answers = []
            for name, ask in (('ours', ours), ('transformers', theirs)):
                start = time.perf_counter()
                answers.append(ask(frame, instruction))
                times[name].append((time.perf_counter() - start) * 1000)
            equal += answers[0] == answers[1]
    count = len(times['ours'])
    medians = {name: float(np.median(values)) for name, values in times.items()}
    return {
        'what': 'picture and question to answer text; onnxruntime against transformers generate()',
        'threads': THREADS,
        'questions': count,
        'equal_answers': equal / count,
        'ours_ms': percentiles(times['ours']),
        'transformers_ms': percentiles(times['transformers']),
        'speedup_p50': round(medians['transformers'] / medians['ours'], 2),
        'speedup_total': round(sum(times['transformers']) / sum(times['ours']), 2),
    }


def _ours() -> Ask:
    perceiver = Perceiver.load('tabletop-nano', threads=THREADS)

    def ask(frame: NDArray[np.uint8], instruction: str) -> str:
        perceiver.set_image(frame)
        return perceiver.ask(instruction, execute=False).text

    return ask


def _transformers() -> Ask:
    import torch

    from unifiedmllm_ros.model.modeling import UnifiedMLLMForConditionalGeneration
    from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor

    torch.set_num_threads(THREADS)
    folder = model_folder('tabletop-nano')
    processor = UnifiedMLLMProcessor.from_pretrained(folder)
    model = UnifiedMLLMForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation='eager'
    ).eval()

    def ask(frame: NDArray[np.uint8], instruction: str) -> str:
        ids = torch.tensor([processor.encode_conversation([(instruction, None)])])
        made = model.generate(
            input_ids=ids,
            pixel_values=torch.from_numpy(processor.pixels(frame)),
            max_new_tokens=MAX_TOKENS,
            do_sample=False,
        )
        return processor.decode(made[0, ids.shape[1] :].tolist())

    return ask
