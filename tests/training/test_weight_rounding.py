"""Training for weights of 4 bits: what it leaves is what the export's quantiser finds again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip('torch', reason='needs the extra [train]')
onnx = pytest.importorskip('onnx', reason='needs the extra [export]')

from pydantic import ValidationError  # noqa: E402
from torch import nn  # noqa: E402

from tests.training.stage_world import (  # noqa: E402
    media_of,
    stage,
    write_conversations_of_all_media,
    write_twin,
)
from unifiedmllm_ros.errors import ConfigError  # noqa: E402
from unifiedmllm_ros.runtime.quantisation import BLOCK, quantise  # noqa: E402
from unifiedmllm_ros.training.results import load_result  # noqa: E402
from unifiedmllm_ros.training.stages import run  # noqa: E402
from unifiedmllm_ros.training.trainer import StageTrainer  # noqa: E402
from unifiedmllm_ros.training.weight_rounding import (  # noqa: E402
    RoundedLinear,
    round_linears,
    rounded,
    settle,
)

KINDS = ('usual', 'positive', 'zero', 'one large', 'tiny', 'equal')


def weights(kind: str, seed: int) -> torch.Tensor:
    made = 0.05 * torch.randn(6, 2 * BLOCK, generator=torch.Generator().manual_seed(seed))
    match kind:
        case 'positive':
            return made.abs()
        case 'zero':
            return torch.zeros_like(made)
        case 'one large':
            made[:, 3] = 4.0
        case 'tiny':
            return made * 0.02
        case 'equal':
            return made[:1, :1].expand_as(made).clone()
    return made


@given(st.sampled_from(KINDS), st.integers(0, 2**31))
def test_a_rounding_lies_on_its_own_grid_and_halves_hold_it(kind: str, seed: int) -> None:
    before = weights(kind, seed)
    once = rounded(before, 4)
    assert torch.equal(rounded(once, 4), once)
    assert torch.equal(once.half().float(), once)
    blocks = before.reshape(6, -1, BLOCK)
    width = blocks.amax(-1).clamp(min=0) - blocks.amin(-1).clamp(max=0)
    error = (once - before).abs().reshape(6, -1, BLOCK).amax(-1)
    # Half a step, at the ends half a step more at most.
    assert bool((error <= width / 15 + 1e-9).all())


@pytest.mark.parametrize('kind', KINDS)
def test_the_export_finds_the_same_values(kind: str) -> None:
    settled = rounded(weights(kind, 0), 4)
    found = _exported(settled.T.numpy(), 4)
    np.testing.assert_array_equal(found.T, settled.numpy())
    assert kind in ('zero', 'equal') or not np.array_equal(
        _exported(weights(kind, 0).T.numpy(), 4).T, weights(kind, 0).numpy()
    )


def test_eight_bits_are_found_again_up_to_halves() -> None:
    settled = rounded(weights('usual', 0), 8).half().float()
    found = _exported(settled.T.numpy(), 8)
    assert np.abs(found.T - settled.numpy()).max() <= 2e-3 * float(settled.abs().max())


def _exported(values: np.ndarray, bits: int) -> np.ndarray:
    """What a graph computes with when its only matrix was quantised: (rows, columns)."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    rows, columns = values.shape
    given = helper.make_tensor_value_info('x', TensorProto.FLOAT, ['n', rows])
    said = helper.make_tensor_value_info('y', TensorProto.FLOAT, ['n', columns])
    product = helper.make_node('MatMul', ['x', 'weight'], ['y'], name='product')
    tensors = [numpy_helper.from_array(np.ascontiguousarray(values), 'weight')]
    graph = helper.make_graph([product], 'one', [given], [said], tensors)
    opsets = [helper.make_opsetid('', 21), helper.make_opsetid('com.microsoft', 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    model = quantise(model, {'product': bits}, 'onnx')  # type: ignore[dict-item]
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return np.asarray(session.run(None, {'x': np.eye(rows, dtype=np.float32)})[0])


def test_a_layer_computes_with_roundings_and_learns_fine_weights() -> None:
    linear = nn.Linear(BLOCK, 3)
    fine = linear.weight.detach().clone()
    layers = nn.ModuleDict({'first': linear})
    round_linears(layers)
    x = torch.randn(4, BLOCK)
    torch.testing.assert_close(linear(x), x @ rounded(fine, 4).T + linear.bias)
    linear(x).sum().backward()
    torch.testing.assert_close(linear.weight.grad, x.sum(0).expand(3, -1))
    assert torch.equal(linear.weight, fine)
    settle(layers)
    assert torch.equal(linear.weight, rounded(fine, 4))


def test_what_is_frozen_and_the_output_layer() -> None:
    layers = nn.ModuleDict({'frozen': nn.Linear(BLOCK, 2), 'lm_head': nn.Linear(BLOCK, 2)})
    layers['frozen'].requires_grad_(False)
    round_linears(layers)
    assert not isinstance(layers['frozen'], RoundedLinear)
    assert layers['lm_head'].bits == 8


def test_two_stages_leave_weights_of_four_bits(tmp_path: Path) -> None:
    """The base of stage 2 and the experts of stage 3; what was saved is loaded as it is."""
    start = write_twin('tabletop-nano', tmp_path / 'twin')
    data = write_conversations_of_all_media(tmp_path / 'data', 4, media_of('tabletop-nano'))
    for number, part in ((2, 'mlp.down_proj.weight'), (3, 'loramoe_A.default.weight')):
        out = tmp_path / f'stage{number}'
        run(stage(number, start, data, out, weight_bits=4, saving={'every': 1000, 'half': True}))
        start = out / 'model'
        state = load_result(start).model.state_dict()
        found = {name: weight for name, weight in state.items() if name.endswith(part)}
        assert found
        for name, weight in found.items():
            assert torch.equal(rounded(weight, 4), weight), name


def test_lora_would_leave_the_grid() -> None:
    with pytest.raises(ValidationError, match=r'weight_bits .* full or loramoe, not lora'):
        stage(
            2,
            Path('twin'),
            Path('data/train.jsonl'),
            Path('out'),
            weight_bits=4,
            trainable={'language_model': 'lora'},
        )


@pytest.mark.parametrize('splitter', ['is_fsdp_enabled', 'is_deepspeed_enabled'])
def test_blocks_that_are_split_are_refused(
    splitter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both need several devices; what they set on the trainer is set in their place."""
    built = StageTrainer.__init__

    def split(self: StageTrainer, **given: object) -> None:
        built(self, **given)  # type: ignore[arg-type]
        setattr(self, splitter, True)

    monkeypatch.setattr(StageTrainer, '__init__', split)
    twin = write_twin('tabletop-nano', tmp_path / 'twin')
    data = write_conversations_of_all_media(tmp_path / 'data', 4, media_of('tabletop-nano'))
    with pytest.raises(ConfigError, match='weight_bits does not go with FSDP or DeepSpeed'):
        run(stage(2, twin, data, tmp_path / 'out', weight_bits=4))
