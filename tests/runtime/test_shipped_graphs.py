"""The graphs of tabletop-nano are those of its weights, its third stage included."""

from __future__ import annotations

import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')
pytest.importorskip('peft', reason='needs the extra [train]')

from unifiedmllm_ros.locations import model_folder  # noqa: E402
from unifiedmllm_ros.model.loramoe_layer import LoraMoELinear  # noqa: E402
from unifiedmllm_ros.runtime.export_check import compare_numbers  # noqa: E402
from unifiedmllm_ros.runtime.onnx_engine import OnnxEngine  # noqa: E402
from unifiedmllm_ros.runtime.torch_engine import TorchEngine  # noqa: E402
from unifiedmllm_ros.training.results import load_result  # noqa: E402

FOLDER = model_folder('tabletop-nano')


def test_the_decoder_says_what_torch_says_with_the_adapter_and_not_without() -> None:
    ours, whole = OnnxEngine.load(FOLDER / 'onnx', threads=1), TorchEngine.load(FOLDER)
    base = TorchEngine(load_result(FOLDER, adapter=False).model, 'base')
    layers = [m for m in whole._model.modules() if isinstance(m, LoraMoELinear)]
    assert len(layers) == 3 * ours.manifest.layers
    # The encoders have other arithmetic; the decoders are compared on the same visual tokens.
    apart = [compare_numbers(ours, each, ours.manifest).differences for each in (whole, base)]
    assert apart[0]['logits'] < 1e-3
    assert apart[1]['logits'] > 1.0
