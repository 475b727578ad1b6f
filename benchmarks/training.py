"""Speed and cost of the stages: tabletop-nano at its size, and the shrunken twins of all presets.

Each run of tabletop-nano has a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

STEPS, BATCH, SCENES = 10, 8, 32
FEED_FORWARD = ('gate_proj', 'up_proj', 'down_proj')
# One LoRA of as many parameters as eight experts of rank 4 have.
LORA = {'language_model': 'lora', 'lora': {'r': 32, 'alpha': 32, 'targets': FEED_FORWARD}}
LORAMOE = {'language_model': 'loramoe'}
STAGES: dict[str, tuple[int, dict[str, Any]]] = {
    'stage1': (1, {'parts': ['adapters']}),
    'stage2': (2, {'parts': ['adapters'], 'language_model': 'full'}),
    'stage2_lora': (2, LORA),
    'stage3_loramoe': (3, LORAMOE),
    'stage3_unbalanced': (3, {**LORAMOE, 'loramoe': {'balance_weight': 0.0}}),
}
TWINS = ('tabletop-nano', 'smol-135m', '7b')
FIGURES = (
    'tokens_per_second',
    'samples_per_second',
    'seconds_per_step',
    'peak_memory_mib',
    'mfu',
    'device',
)


def run() -> dict[str, Any]:
    """Every stage of tabletop-nano and of the twins; LoRAMoE against one LoRA."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        context = multiprocessing.get_context('spawn')
        nano = {}
        for name in STAGES:
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                nano[name] = pool.submit(nano_stage, name, work / name).result()
        twins = {name: twin_stages(name, work / f'twin-{name}') for name in TWINS}
    return {
        'batch': BATCH,
        'steps': STEPS,
        'threads': os.cpu_count(),
        'tabletop_nano': nano,
        'twins': twins,
        'loramoe_over_lora': {
            figure: round(nano['stage3_loramoe'][figure] / nano['stage2_lora'][figure], 3)
            for figure in ('seconds_per_step', 'peak_memory_mib')
        },
    }


def nano_stage(name: str, work: Path) -> dict[str, Any]:
    """A few steps of one stage of tabletop-nano on dialogues, pictures included."""
    work.mkdir()
    stage, trainable = STAGES[name]
    return _figures(stage, 'tabletop-nano', write_dialogues(work), work / 'out', trainable, 'bf16')


def write_dialogues(folder: Path) -> Path:
    """Dialogues about made-up scenes, with pictures of noise."""
    import cv2
    import numpy as np

    from unifiedmllm_ros.data.conversation import Conversation, Turn, write_conversations
    from unifiedmllm_ros.tabletop.dialogues import dialogue
    from unifiedmllm_ros.tabletop.lexicon import default_lexicon
    from unifiedmllm_ros.tabletop.symbolic import sample_scene

    rng, noise = Random(0), np.random.default_rng(0)
    rows = []
    for number in range(SCENES):
        picture = noise.integers(0, 255, (240, 320, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f'{number}.jpg'), picture)
        turns = [
            Turn(role=role, text=text)
            for question in dialogue(sample_scene(rng, default_lexicon()), rng, 'train', 3)
            for role, text in (('user', question.text), ('assistant', question.answer_text))
        ]
        row = Conversation(id=str(number), kind='bench', image=f'{number}.jpg', turns=tuple(turns))
        rows.append(row)
    write_conversations(folder / 'train.jsonl', rows)
    return folder / 'train.jsonl'


def twin_stages(name: str, work: Path) -> dict[str, Any]:
    """A few steps of the three stages of a twin, on conversations of all its media."""
    from tests.training.stage_world import media_of, write_conversations_of_all_media, write_twin

    twin = write_twin(name, work / 'model')
    data = write_conversations_of_all_media(work / 'data', SCENES, media_of(name))
    return {
        stage: _figures(STAGES[stage][0], str(twin), data, work / stage, STAGES[stage][1], 'fp32')
        for stage in ('stage1', 'stage2', 'stage3_loramoe')
    }


def _figures(
    stage: int, start: str, data: Path, out: Path, trainable: dict[str, Any], precision: str
) -> dict[str, Any]:
    from unifiedmllm_ros.training.settings import StageSettings
    from unifiedmllm_ros.training.stages import run as train

    settings = StageSettings.model_validate(
        {
            'stage': stage,
            'model': {'start': start, 'adapter': False},
            'data': [{'path': data.name}],
            'data_root': data.parent,
            'out': out,
            'trainable': trainable,
            # Reading in a process beside, as a long run would.
            'batch': {'size': BATCH, 'per_device': BATCH, 'length': 320, 'workers': 1},
            'steps': STEPS,
            'precision': precision,
            'saving': {'every': 10 * STEPS},
            'threads': os.cpu_count() or 1,
        }
    )
    summary = train(settings)
    busy = round(1.0 - summary['waiting_for_data'], 4)
    return {**{name: summary[name] for name in FIGURES}, 'busy': busy}
