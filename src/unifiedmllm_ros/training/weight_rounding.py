"""Training for weights of 4 bits: what learns is rounded in the forward pass as an export will.

The weights that learn stay fine; the layers compute with their roundings, and the gradient passes
through the rounding as if it were not there (Bengio et al., 2013, arXiv 1308.3432; Jacob et al.,
2018, arXiv 1712.05877). What the run leaves are the roundings themselves, so that an export to int4
loses nothing: each block's grid is found again from the values that lie on it.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from unifiedmllm_ros.runtime.quantisation import BLOCK

BITS: Final = 4
HEAD_BITS: Final = 8
"""Of the output layer: its logits decide between near numbers, and the embedding is its weight."""
_SCALE_BITS: Final = 7
"""Of a scale of 4 bits: times a level of 4 bits it has the 11 that float16 can hold."""


def rounded(weight: Tensor, bits: int) -> Tensor:
    """Return (rows, columns) on the grid of its blocks, those of an asymmetric quantiser.

    A block's 2 ** bits levels reach from its least value to its greatest, zero among them. With 4
    bits what is returned lies on its own grid again, and float16 holds it exactly.
    """
    rows, columns = weight.shape
    top = 2**bits - 1
    # A last block that is not full ends in zeros, which every grid has.
    blocks = functional.pad(weight, (0, -columns % BLOCK)).reshape(rows, -1, BLOCK)
    low = blocks.amin(-1, keepdim=True).clamp(max=0)
    high = blocks.amax(-1, keepdim=True).clamp(min=0)
    scale = (high - low) / top
    if bits == BITS:
        # Downwards: a longer step could leave the outermost levels empty, and move the grid.
        fraction, exponent = torch.frexp(scale)
        whole = torch.floor(fraction * 2**_SCALE_BITS) / 2**_SCALE_BITS
        scale = torch.ldexp(whole, exponent)
    step = torch.where(scale > 0, scale, torch.ones_like(scale))
    zero = torch.round(-low / step).clamp(0, top)
    levels = (torch.round(blocks / step) + zero).clamp(0, top)
    return ((levels - zero) * scale).reshape(rows, -1)[:, :columns]


class RoundedLinear(nn.Linear):
    """A linear layer that computes with its weight rounded to `bits` bits."""

    bits: int

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        with torch.no_grad():
            error = rounded(self.weight, self.bits) - self.weight
        return functional.linear(x, self.weight + error, self.bias)


def round_linears(language_model: nn.Module) -> None:
    """Let the linears that learn compute with rounded weights; names and parameters stay."""
    for name, module in language_model.named_modules():
        if type(module) is nn.Linear and module.weight.requires_grad:
            module.__class__ = RoundedLinear
            module.bits = HEAD_BITS if name.endswith('lm_head') else BITS


@torch.no_grad()
def settle(model: nn.Module) -> None:
    """Put the roundings in the place of the weights that learnt."""
    for module in model.modules():
        if isinstance(module, RoundedLinear):
            module.weight.copy_(rounded(module.weight, module.bits))
