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


def ours(
    speculate: bool = True,
    folder: Path | None = None,
    backend: str = 'onnxruntime',
    precision: str = 'auto',
) -> Ask:
    """Our runtime as the perception node uses it, or without drafts, or with other graphs."""
    model = UnifiedModel.load(
        folder or model_folder('tabletop-nano'),
        threads=THREADS,
        backend=backend,
        precision=precision,
        speculate=speculate,
    )
    perceiver = Perceiver(model)

    def ask(frame: NDArray[np.uint8], instruction: str) -> str:
        perceiver.set_image(frame)
        return perceiver.ask(instruction, execute=False).text

    return ask


def transformers(compiled: bool = False, device: str = 'cpu', dtype: str = 'float32') -> Ask:
    """generate() of transformers; compiled: by torch.compile, with a static cache.

    On a GPU what is compiled is replayed as CUDA graphs, as generate() does it by itself.
    """
    import torch
    from transformers import CompileConfig

    from unifiedmllm_ros.model.modeling import UnifiedMLLMForConditionalGeneration
    from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor

    torch.set_num_threads(THREADS)
    folder = model_folder('tabletop-nano')
    processor = UnifiedMLLMProcessor.from_pretrained(folder)
    model: Any = UnifiedMLLMForConditionalGeneration.from_pretrained(
        folder, dtype=getattr(torch, dtype), attn_implementation='sdpa' if compiled else 'eager'
    ).eval()
    model.to(device)
    options: dict[str, Any] = {}
    if compiled:
        mode = 'default' if device == 'cpu' else 'reduce-overhead'
        model.image_tower = torch.compile(model.image_tower, mode=mode)
        compilation = CompileConfig(mode=mode)
        compilation._compile_all_devices = True  # generate() leaves the CPU out otherwise
        options = {'cache_implementation': 'static', 'compile_config': compilation}

    def ask(frame: NDArray[np.uint8], instruction: str) -> str:
        ids = torch.tensor([processor.encode_conversation([(instruction, None)])], device=device)
        made = model.generate(
            input_ids=ids,
            pixel_values=torch.from_numpy(processor.pixels(frame)).to(device, model.dtype),
            max_new_tokens=MAX_TOKENS,
            do_sample=False,
            **options,
        )
        return processor.decode(made[0, ids.shape[1] :].tolist())

    return ask
