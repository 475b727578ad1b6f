"""Fold batch norms into the convolutions before them, so that what is stored is what runs.

Every exporter folds them. Folded weights of a model that was rounded to half precision are not
halves any more: the graph would have to store them whole, or would answer a little differently.
Folded first and rounded then, they are the same numbers in the checkpoint and in the graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import nn

# A norm that changes nothing, in numbers that float16 holds and to which no epsilon adds
# anything in float32: 192 / sqrt(36864 + 0.001) is exactly 1.
_SCALE, _VARIANCE = 192.0, 36864.0


@torch.no_grad()
def fold_batch_norms(module: nn.Module) -> None:
    """Move every batch norm that follows its convolution into it, in place, but for the bias.

    The module must only be evaluated afterwards: batch statistics would undo the identity.
    """
    for convolution, norm in _pairs(module):
        mean, variance = norm.running_mean, norm.running_var
        if mean is None or variance is None:
            continue
        scale = norm.weight / (variance + norm.eps).sqrt()
        convolution.weight *= scale.view(-1, 1, 1, 1)
        norm.bias -= mean * scale
        mean.zero_()
        variance.fill_(_VARIANCE)
        norm.weight.fill_(_SCALE)


def _pairs(module: nn.Module) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions without bias and the norms defined right after them."""
    for parent in module.modules():
        for first, second in pairwise(parent.children()):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                yield first, second
