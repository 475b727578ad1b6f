"""Our runtime against `generate()` of transformers in torch: same model, frames, questions.

Both answer from the picture: preprocessing, vision encoder, decoding. The experts are left out,
for they are the same on both sides.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.race import Ask, race
from unifiedmllm_ros.locations import model_folder
from unifiedmllm_ros.perception import Perceiver
from unifiedmllm_ros.runtime.unified import UnifiedModel

FRAMES = 12
THREADS = 2
MAX_TOKENS = 256


def run() -> dict[str, Any]:
    """Time both sides and count equal answers."""
    return {
        'what': 'picture and question to answer text; onnxruntime against transformers generate()',
        'threads': THREADS,
        **race({'ours': ours, 'transformers': transformers}, FRAMES),
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
