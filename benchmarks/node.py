"""The perception node around the model: its own overhead, its memory, and a flood of images.

The overhead is taken inside one process, from the image callback to the last publish, minus the
stages of the model and the experts. Memory and flood are those of the installed program, in a
process of its own, fed over DDS with frames of the sample recording.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from benchmarks.frames import percentiles
from benchmarks.node_process import Sample, feed, running_node
from benchmarks.node_stages import stages_of_answers
from unifiedmllm_ros.nodes.inquiry import WORK_STAGES

MODEL = 'tabletop-nano'
INSTRUCTION = 'segment the red mug'
OVERHEAD_FRAMES = 150
MEMORY_FRAMES, MEMORY_RATE = 10_000, 100.0
FLOOD_SECONDS, FLOOD_RATE = 60.0, 200.0
SETTLED = 0.2
"""Share of the frames after which memory counts as settled."""


def run(model: str = MODEL, scale: float = 1.0) -> dict[str, Any]:
    """Measure all; `scale` below 1 shortens everything, for trying it out."""
    os.environ['ROS_DOMAIN_ID'] = str(os.getpid() % 100 + 1)
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    frames = max(20, round(OVERHEAD_FRAMES * scale))
    return {
        'what': 'perception_node, 640x480 frames of the sample recording',
        'model': model,
        'instruction': INSTRUCTION,
        'overhead': {
            image_input: overhead(model, image_input, frames)
            for image_input in ('raw', 'compressed')
        },
        'memory': memory(model, round(MEMORY_FRAMES * scale)),
        'flood': flood(model, FLOOD_SECONDS * scale),
    }


def overhead(model: str, image_input: str, frames: int) -> dict[str, Any]:
    """Milliseconds from image callback to publish, minus inference."""
    answers = stages_of_answers(model, image_input, INSTRUCTION, frames)
    own = [{s: ms for s, ms in times.items() if s not in WORK_STAGES} for times in answers]
    return {
        'frames': len(own),
        'total_ms': percentiles([sum(times.values()) for times in own]),
        'stages_ms': {stage: percentiles([times[stage] for times in own]) for stage in own[0]},
    }


def memory(model: str, frames: int) -> dict[str, Any]:
    """Resident memory in MiB while `frames` compressed frames come in at 100 Hz."""
    with running_node(model, INSTRUCTION) as node:
        samples = feed(node, frames, MEMORY_RATE)
    settled = [sample for sample in samples if sample.sent >= SETTLED * frames]
    sent = np.array([sample.sent for sample in settled])
    resident = np.array([sample.resident_mib for sample in settled])
    growth = float(np.polyfit(sent, resident, 1)[0]) * 1000
    return {
        **_counts(samples[-1]),
        'rate_hz': MEMORY_RATE,
        'resident_mib': {
            'settled': round(resident[0].item(), 1),
            'end': round(resident[-1].item(), 1),
            'peak': round(max(sample.resident_mib for sample in samples), 1),
        },
        'growth_mib_per_1000_frames': round(growth, 3),
    }


def flood(model: str, seconds: float) -> dict[str, Any]:
    """What becomes of images at 200 Hz, and whether the node answers as before when they end."""
    with running_node(model, INSTRUCTION) as node:
        samples = feed(node, round(seconds * FLOOD_RATE), FLOOD_RATE)
        before = node.counts()['answers']
        after = feed(node, 10, 2.0)[-1].counts['answers']
    return {
        **_counts(samples[-1]),
        'rate_hz': FLOOD_RATE,
        'seconds': seconds,
        'peak_resident_mib': round(max(sample.resident_mib for sample in samples), 1),
        'answers_afterwards': after - before,
    }


def _counts(last: Sample) -> dict[str, Any]:
    return {'frames_sent': last.sent, **last.counts}
