"""The kernels of a decoding step: which models they take, and torch's numbers."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')
peft = pytest.importorskip('peft', reason='needs the extra [train]')

from tests.model.preset_twin import shrunken_model  # noqa: E402
from unifiedmllm_ros.model.loramoe import LoraMoEConfig  # noqa: E402
from unifiedmllm_ros.runtime.captured_engine import CapturedEngine  # noqa: E402
from unifiedmllm_ros.runtime.fused_decoder import Tiles, fits, tiles_of  # noqa: E402
from unifiedmllm_ros.runtime.torch_engine import TorchEngine  # noqa: E402

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec('triton') is None, reason='needs triton, which comes with CUDA torch'
)
needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason='needs an NVIDIA GPU'),
]


def llama(heads: int = 6, kv_heads: int = 2, **fields: Any) -> Any:
    """A language model whose sizes are no powers of two."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes: dict[str, Any] = {
        'hidden_size': 96,
        'intermediate_size': 176,
        'num_hidden_layers': 3,
        'num_attention_heads': heads,
        'num_key_value_heads': kv_heads,
        'vocab_size': 1100,
        'initializer_range': 0.1,
    }
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**{**sizes, **fields})).eval()


@pytest.mark.parametrize('preset', ['7b', 'smol-135m', 'tabletop-nano'])
def test_presets_fit(preset: str) -> None:
    assert fits(shrunken_model(preset).language_model)


def test_what_has_more_than_weights_does_not_fit() -> None:
    adapted = peft.get_peft_model(shrunken_model('tabletop-nano'), LoraMoEConfig())
    assert not fits(adapted.get_base_model().language_model)
    assert not fits(llama(attention_bias=True))
    assert not fits(llama(mlp_bias=True))
    assert not fits(llama(hidden_act='gelu'))
    assert not fits(llama(heads=4))  # heads 24 wide


def test_tiles_are_powers_of_two_that_cover() -> None:
    for rows, columns in ((960, 576), (576, 1536), (12288, 4096), (4096, 11008), (1100, 96)):
        for gated in (False, True):
            tiles = tiles_of(rows, columns, gated)
            assert isinstance(tiles, Tiles)
            assert tiles.rows & (tiles.rows - 1) == tiles.columns & (tiles.columns - 1) == 0
            assert tiles.columns <= 2048


def wrap(language_model: Any) -> Any:
    """A model of ours around a language model."""
    model = shrunken_model('smol-135m')
    model.config.text_config = language_model.config
    model.language_model = language_model
    return model


def differences(device: str) -> list[float]:
    """How far steps over one id, with few others and with many, are from torch's."""
    found = []
    for model in (llama(), llama(heads=12, kv_heads=12), shrunken_model('tabletop-nano')):
        whole = model if hasattr(model, 'language_model') else wrap(model)
        ids = np.random.default_rng(0).integers(20, 1000, 300).tolist()
        reference = TorchEngine(whole, 'twin')
        expected = reference.step(ids, reference.new_cache())
        engine = CapturedEngine(whole.to(device), 'twin')
        assert engine._decoder.fused, engine.info
        cache = engine.new_cache()
        cuts = [4, *range(5, 9), 292, *range(293, 301)]  # of one id near the beginning and the end
        if device == 'cpu':
            cuts = [4, *range(5, 9), 262, 263, 300]  # the interpreter is slow
        said = [engine.step(ids[a:b], cache) for a, b in pairwise([0, *cuts])]
        found.append(float(np.abs(np.concatenate(said) - expected).max()))
    return found


@needs_triton
@pytest.mark.timeout(900)
def test_numbers_of_torch_where_the_kernels_are_interpreted() -> None:
    code = (
        'from tests.runtime.test_fused_decoder import differences; '
        'assert max(found := differences("cpu")) < 1e-3, found'
    )
    environment = {**os.environ, 'TRITON_INTERPRET': '1'}
    subprocess.run([sys.executable, '-c', code], env=environment, check=True, timeout=850)


@pytest.mark.parametrize('device', [pytest.param('cuda', marks=needs_gpu)])
def test_numbers_of_torch_on_a_gpu(device: str) -> None:
    assert max(found := differences(device)) < 2e-3, found
