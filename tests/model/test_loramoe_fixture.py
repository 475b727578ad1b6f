"""LoRAMoE against outputs, losses and gradients of the published implementation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')
pytest.importorskip('peft', reason='needs the extra [train]')

from peft import get_peft_model  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from unifiedmllm_ros.model.balancing import balancing_loss, record_routing  # noqa: E402
from unifiedmllm_ros.model.loramoe import LoraMoEConfig  # noqa: E402

DATA = Path(__file__).parents[1] / 'data'
CASES = json.loads((DATA / 'loramoe_linear.json').read_text())['cases']
WEIGHTS = load_file(DATA / 'loramoe_linear.weights.safetensors')
VALUES = load_file(DATA / 'loramoe_linear.io.safetensors')
EXPERTS = 8


class Block(torch.nn.Module):
    """A gated feed-forward block as in Llama."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj = torch.nn.Linear(32, 48, bias=False)
        self.up_proj = torch.nn.Linear(32, 48, bias=False)
        self.down_proj = torch.nn.Linear(48, 32, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(torch.nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Single(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(32, 48, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


def config(names: list[str], **options) -> LoraMoEConfig:
    return LoraMoEConfig(target_modules=names, dropout=0.0, balance_published=True, **options)


def adapted(model: torch.nn.Module, names: dict[str, str], **options) -> torch.nn.Module:
    """The model with the published weights; names: module name -> prefix in the file."""
    peft = get_peft_model(model, config(list(names), **options))
    for name, prefix in names.items():
        layer = peft.get_submodule(f'base_model.model.{name}')
        with torch.no_grad():
            layer.base_layer.weight.copy_(WEIGHTS[f'{prefix}.weight'])
            layer.loramoe_router['default'].weight.copy_(WEIGHTS[f'{prefix}.lora_route.weight'])
            for dim, matrix in ((0, 'A'), (1, 'B')):
                parts = [WEIGHTS[f'{prefix}.lora_{matrix}{e}.weight'] for e in range(EXPERTS)]
                getattr(layer, f'loramoe_{matrix}')['default'].weight.copy_(torch.cat(parts, dim))
    return peft.train()


def single(**options) -> torch.nn.Module:
    return adapted(Single(), {'linear': 'linear'}, **options)


def close(got: torch.Tensor, name: str) -> None:
    torch.testing.assert_close(got, VALUES[f'expect.{name}'], atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize('name', ['x1', 'x2', 'x4'])
def test_output_and_router(name: str) -> None:
    model = single()
    with record_routing(model) as routing:
        close(model(VALUES[f'input.{name}']), f'{name}.out')
    close(routing.of('default')[0], f'{name}.router')


@pytest.mark.parametrize('case', CASES, ids=lambda case: str(case['index']))
def test_balancing_loss(case: dict) -> None:
    options = {'balance_delta': case['blc_alpha'], 'balance_weight': case['blc_weight']}
    model = single(**options)
    with record_routing(model) as routing:
        model(VALUES[f'input.{case["input"]}'])
    loss = balancing_loss(routing, config([], **options), case['task_types'])
    torch.testing.assert_close(loss, VALUES['expect.blc'][case['index']], atol=1e-5, rtol=1e-5)


def test_gradients() -> None:
    model = single(balance_weight=1.0)
    with record_routing(model) as routing:
        out = model(VALUES['input.x2'])
    loss = balancing_loss(routing, config([], balance_weight=1.0), [1, 0])
    layer = model.base_model.model.linear
    router = layer.loramoe_router['default'].weight
    (alone,) = torch.autograd.grad(loss, router, retain_graph=True)
    close(alone, 'blc_grad.lora_route.weight')
    (out.square().mean() + loss).backward()
    assert layer.base_layer.weight.grad is None
    close(router.grad, 'grad.lora_route.weight')
    firsts = layer.loramoe_A['default'].weight.grad.split(4, dim=0)
    seconds = layer.loramoe_B['default'].weight.grad.split(4, dim=1)
    for expert in range(EXPERTS):
        close(firsts[expert], f'grad.lora_A{expert}.weight')
        close(seconds[expert], f'grad.lora_B{expert}.weight')


def test_feed_forward_block() -> None:
    names = ['gate_proj', 'up_proj', 'down_proj']
    model = adapted(Block(), {name: f'mlp.{name}' for name in names}, balance_weight=1.0)
    with record_routing(model) as routing:
        close(model(VALUES['input.mlp.x']), 'mlp.out')
    for name, router in zip(names, routing.of('default'), strict=True):
        close(router, f'mlp.router.{name}')
    loss = balancing_loss(routing, config([], balance_weight=1.0), VALUES['input.mlp.task_types'])
    close(loss.reshape(1), 'mlp.blc')
