"""Weights change their type; what is computed from a configuration does not."""

from __future__ import annotations

import torch
from torch import nn

from tests.model.preset_twin import shrunken_model
from unifiedmllm_ros.model.precision import convert


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.tied = self.linear
        self.register_buffer('mean', torch.full((2,), 1 / 3))
        self.register_buffer('count', torch.ones(1, dtype=torch.long))
        self.register_buffer('frequencies', torch.full((2,), 1 / 3), persistent=False)


def test_only_what_is_stored_is_rounded() -> None:
    layer = Layer()
    assert convert(layer, torch.float16) is layer
    assert layer.linear.weight.dtype == layer.mean.dtype == torch.float16
    assert layer.tied.weight is layer.linear.weight
    assert layer.count.dtype == torch.long
    convert(layer, torch.float32)
    assert layer.mean[0] == torch.tensor(1 / 3).half().float() != 1 / 3
    assert layer.frequencies[0] == torch.tensor(1 / 3)


def test_frequencies_of_rotary_embeddings_keep_float32() -> None:
    model = shrunken_model('tabletop-nano')
    before = {name: b.clone() for name, b in model.named_buffers() if name.endswith('inv_freq')}
    convert(model, torch.float16)
    after = dict(model.named_buffers())
    assert before
    for name, frequencies in before.items():
        assert torch.equal(after[name], frequencies)
        assert not torch.equal(frequencies.half().float(), frequencies)
    assert {p.dtype for p in model.parameters()} == {torch.float16}
