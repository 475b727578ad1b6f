"""From a question to its masks: one new 640x480 frame, one question, everything included."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.frames import percentiles, sample_frames, sample_recording
from unifiedmllm_ros.perception import Perceiver

FRAMES = 60
THREADS = 2


def run() -> dict[str, Any]:
    """Ask each of the recording's questions about each of `FRAMES` frames.

    Every question is timed with the encoding of its frame, as if the frame were new.
    """
    perceiver = Perceiver.load('tabletop-nano', threads=THREADS)
    frames = sample_frames(FRAMES)
    instructions = [question.instruction for question in sample_recording().questions]
    perceiver.set_image(frames[0])
    perceiver.ask(instructions[0])
    total, stages, masks = [], {'encode': [], 'decode': [], 'experts': []}, 0
    for frame in frames:
        for instruction in instructions:
            start = time.perf_counter()
            perceiver.set_image(frame)
            answer = perceiver.ask(instruction, mask_all=True)
            total.append((time.perf_counter() - start) * 1000)
            masks += len(answer.masks)
            for stage, times in stages.items():
                times.append(answer.stages[stage])
    return {
        'what': 'new frame and question to boxes and masks, 640x480, in process',
        'threads': THREADS,
        'questions': len(total),
        'masks': masks,
        'backend': perceiver.model.info.backend,
        'total_ms': percentiles(total),
        'stages_ms': {stage: percentiles(times) for stage, times in stages.items()},
    }
