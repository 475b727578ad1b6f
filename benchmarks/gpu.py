"""A GPU: decoding against the memory's limit, memory at 7B, and questions against torch.compile.

Weights of smol-135m and 7b are random, which changes nothing of the time. Questions are those of
the runtime's measurement, to tabletop-nano. `backends` says what ran of the others and what not.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np

from benchmarks.race import Side, race
from benchmarks.transformers_eager import ours, transformers

FRAMES = 4
PROMPT, ANSWER = 128, 128
COPY_BYTES = 2 << 30
CHAIN = 1000
PRECISION: Final = 'fp16'
_BF16 = 2  # bytes


def run() -> dict[str, Any]:
    """Measure all rows on the first GPU; RuntimeError without one."""
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError('torch sees no NVIDIA GPU: these rows are measured on one')
    limits = {
        'copied_bytes_per_second': bandwidth(),
        'kernel_us': chained_kernel(),
    }
    said = backends()
    return {
        'what': 'a GPU: decoding against its memory, questions against torch.compile',
        'gpu': about(),
        'limits': limits,
        'decode': {name: decode(name, limits) for name in ('smol-135m', '7b')},
        'backends': said,
        'question_to_answer': question_to_answer(said),
    }


def about() -> dict[str, Any]:
    """The GPU, its driver and the libraries that compute on it."""
    import torch
    import triton

    from unifiedmllm_ros.runtime.gpu import gpus

    gpu = gpus()[0]
    return {
        'name': gpu.name,
        'driver': gpu.driver,
        'capability': gpu.capability_name,
        'torch': torch.__version__,
        'cuda': torch.version.cuda,
        'triton': triton.__version__,
    }


def bandwidth() -> float:
    """Bytes a second that a copy on the device reads and writes, the best of several."""
    import torch

    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device='cuda').random_(256)
    target = torch.empty_like(source)
    seconds = [_seconds(lambda: target.copy_(source)) for _ in range(10)]
    return round(2 * COPY_BYTES / min(seconds[1:]))


def chained_kernel() -> float:
    """Microseconds of the shortest kernel in a CUDA graph of such, each after the one before."""
    import torch

    from unifiedmllm_ros.runtime.cuda_graphs import Recorder

    number = torch.zeros(1, device='cuda')

    def chain() -> Any:
        for _ in range(CHAIN):
            number.add_(1)
        return number

    replay = Recorder(number.device).record(chain)
    seconds = [_seconds(replay) for _ in range(10)]
    return round(min(seconds) / CHAIN * 1e6, 2)


def decode(preset: str, limits: dict[str, Any]) -> dict[str, Any]:
    """Tokens a second after a prompt, one sequence, against what the memory could give.

    A token reads all weights but the embedding's, of which it reads a row, and the cache.
    """
    import torch

    from unifiedmllm_ros.runtime.captured_engine import CapturedEngine

    _free()
    model = random_model(preset, torch.bfloat16)
    weights = sum(p.numel() * p.element_size() for p in {*model.parameters()})
    engine = CapturedEngine(model, preset)
    manifest = engine.manifest
    position = 2 * manifest.layers * manifest.kv_heads * manifest.head_dim * _BF16
    language: Any = model.language_model
    read = sum(p.numel() * p.element_size() for p in {*language.parameters()})
    if not language.config.tie_word_embeddings:
        read -= language.get_input_embeddings().weight.numel() * _BF16
    speeds = _speeds(engine)
    free, total = torch.cuda.mem_get_info()
    used = total - free  # by everybody, the driver and its context among them
    computed = weights + position * manifest.max_length
    generic = _speeds(CapturedEngine(model, preset, fused=False))
    bytes_per_token = read + position * (PROMPT + ANSWER // 2)
    limit = limits['copied_bytes_per_second'] / bytes_per_token
    return {
        'backend': engine.info.backend,
        'state': engine.info.state,
        'prompt': PROMPT,
        'answer': ANSWER,
        'prefill_tokens_per_second': round(speeds['prefill']),
        'decode_tokens_per_second': round(speeds['decode'], 1),
        'decode_without_kernels': round(generic['decode'], 1),
        'bytes_per_token': bytes_per_token,
        'limit_tokens_per_second': round(limit, 1),
        'share_of_limit': round(speeds['decode'] / limit, 3),
        'memory_bytes': used,
        'weights_bytes': weights,
        'cache_bytes': position * manifest.max_length,
        'memory_ratio': round(used / computed, 3),
    }


def random_model(preset: str, dtype: Any) -> Any:
    """A model of a preset with random weights, made on the GPU."""
    import torch

    from tests.model.preset_twin import SPELLINGS, TOKENS, WORDS
    from unifiedmllm_ros.model.modeling import UnifiedMLLMForConditionalGeneration
    from unifiedmllm_ros.model.presets import load_preset

    config = load_preset(preset).config(TOKENS, WORDS, SPELLINGS)
    config.text_config.vocab_size = load_preset(preset).text['vocab_size']
    torch.manual_seed(0)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device('cuda'):
            return UnifiedMLLMForConditionalGeneration(config).eval()
    finally:
        torch.set_default_dtype(usual)


def _speeds(engine: Any) -> dict[str, float]:
    """Tokens a second of the prompt and of the answer, the best of three rounds after one."""
    ids = np.random.default_rng(0).integers(100, 1000, PROMPT).tolist()
    best = {'prefill': 0.0, 'decode': 0.0}
    cache = engine.new_cache()
    for number in range(4):
        cache.truncate(0)
        start = time.perf_counter()
        token = int(engine.step(ids, cache, last=1).argmax())
        middle = time.perf_counter()
        for _ in range(ANSWER):
            token = int(engine.step([token], cache).argmax())
        end = time.perf_counter()
        if number:
            best['prefill'] = max(best['prefill'], PROMPT / (middle - start))
            best['decode'] = max(best['decode'], ANSWER / (end - middle))
    return best


def question_to_answer(said: dict[str, str]) -> dict[str, Any]:
    """A new frame and a question to the answer, all sides on the GPU in halves.

    said: what `backends` found.
    """
    sides: dict[str, Side] = {'ours': partial(ours, backend='torch', precision=PRECISION)}
    for backend in ('tensorrt', 'onnxruntime-cuda'):
        if said[backend].startswith('runs'):
            sides[backend] = partial(ours, backend=backend, precision=PRECISION)
    sides['transformers_eager'] = partial(transformers, device='cuda', dtype='float16')
    sides['transformers_compiled'] = partial(
        transformers, compiled=True, device='cuda', dtype='float16'
    )
    return {'precision': PRECISION, **race(sides, FRAMES)}


def backends() -> dict[str, str]:
    """Of each backend, whether tabletop-nano answers on it, or what it says instead."""
    from unifiedmllm_ros.perception import Perceiver

    said = {}
    for backend in ('torch', 'onnxruntime-cuda', 'tensorrt'):
        try:
            perceiver = Perceiver.load('tabletop-nano', backend=backend, precision=PRECISION)
            perceiver.set_image(np.zeros((480, 640, 3), np.uint8))
            answer = perceiver.ask('find the red mug', execute=False)
            said[backend] = f'runs: {answer.text}'
        except Exception as error:  # every reason is one to report
            said[backend] = f'{type(error).__name__}: {error}'
    return said


def _seconds(work: Callable[[], Any]) -> float:
    import torch

    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def _free() -> None:
    import torch

    gc.collect()
    torch.cuda.empty_cache()
