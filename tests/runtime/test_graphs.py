"""Layers of graphs that are not those of the model compute what these compute."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')
peft = pytest.importorskip('peft', reason='needs the extra [train]')

from tests.model.preset_twin import shrunken_model  # noqa: E402
from unifiedmllm_ros.model.loramoe import LoraMoEConfig  # noqa: E402
from unifiedmllm_ros.model.loramoe_layer import LoraMoELinear  # noqa: E402
from unifiedmllm_ros.runtime.export import export_model  # noqa: E402
from unifiedmllm_ros.runtime.graphs import ExpertsGraph, exportable  # noqa: E402


@pytest.mark.parametrize(('rank', 'alpha', 'experts'), [(1, 8.0, 4), (4, 32.0, 8), (3, 5.0, 2)])
def test_experts_with_fewer_operators_say_the_same(rank: int, alpha: float, experts: int) -> None:
    torch.manual_seed(0)
    config = LoraMoEConfig(r=rank, alpha=alpha, experts=experts, init_weights=False)
    layer = LoraMoELinear(torch.nn.Linear(24, 40), 'default', config).eval()
    x = torch.randn(2, 7, 24)
    with torch.no_grad():
        torch.testing.assert_close(ExpertsGraph(layer)(x), layer(x), atol=1e-5, rtol=1e-5)


def test_shares_of_experts_are_computed_in_float32() -> None:
    config = LoraMoEConfig(r=2, experts=4, init_weights=False)
    layer = LoraMoELinear(torch.nn.Linear(24, 40), 'default', config).eval().half()
    experts = ExpertsGraph(layer)
    x = torch.randn(1, 3, 24).half()
    graph = torch.export.export(experts, (x,)).graph
    (softmax,) = (node for node in graph.nodes if 'softmax' in str(node.target))
    assert softmax.meta['val'].dtype == torch.float32
    assert experts(x).dtype == torch.float16


def test_layers_are_themselves_again_after_an_export() -> None:
    model = peft.get_peft_model(shrunken_model('tabletop-nano'), LoraMoEConfig())
    language_model = model.get_base_model().language_model
    before = dict(language_model.named_modules())
    with exportable(language_model):
        kinds = {type(module) for module in language_model.modules()}
        assert ExpertsGraph in kinds
        assert LoraMoELinear not in kinds
    assert dict(language_model.named_modules()) == before


@pytest.mark.parametrize('precision', ['fp32', 'fp16'])
def test_an_export_does_not_round_the_frequencies_of_rotary_embeddings(
    precision: str, tmp_path: Path
) -> None:
    onnx = pytest.importorskip('onnx', reason='needs the extra [export]')
    model = shrunken_model('tabletop-nano')
    wanted = next(b.clone() for n, b in model.named_buffers() if n.endswith('inv_freq'))
    export_model(model, 'twin', tmp_path, precision=precision)  # type: ignore[arg-type]
    stored = onnx.load(tmp_path / 'decoder.onnx').graph.initializer
    (found,) = (onnx.numpy_helper.to_array(t) for t in stored if 'inv_freq' in t.name)
    assert found.reshape(-1).tolist() == wanted.tolist()
