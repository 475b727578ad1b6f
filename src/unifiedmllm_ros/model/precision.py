"""The type that a model's weights have.

`Module.to` also converts what a module computes once and stores nowhere, such as the frequencies of
rotary embeddings: in halves these would turn a far position by a wrong angle.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Module = TypeVar('Module', bound=nn.Module)


def convert(module: Module, dtype: torch.dtype) -> Module:
    """Convert all floating-point parameters and stored buffers in place; returns the module."""
    for tensor in module.state_dict(keep_vars=True).values():
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
    return module
