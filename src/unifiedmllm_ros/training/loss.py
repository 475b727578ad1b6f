"""The loss of answers: next token, a coordinate's target spread over its neighbours if wanted."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from unifiedmllm_ros.model.modeling import NUMBERS
from unifiedmllm_ros.training.encoding import IGNORED

CHUNK = 1024  # rows whose logits are held in float32 at a time


def wanted_rows(labels: Tensor) -> Tensor:
    """(B, T) bool: the positions whose next token is to be learnt."""
    wanted = torch.zeros_like(labels, dtype=torch.bool)
    wanted[:, :-1] = labels[:, 1:] != IGNORED
    return wanted


def answer_loss(logits: Tensor, targets: Tensor, first_number: int, softness: float) -> Tensor:
    """Cross entropy of M tokens, summed.

    Args:
        logits: (M, vocabulary), of any precision; targets: (M,).
        softness: standard deviation, in coordinates, of the target of a number token; 0: none. The
            entropy of the target itself is no error and left out.
    """
    parts = [
        _part(some, goal, first_number, softness)
        for some, goal in zip(logits.split(CHUNK), targets.split(CHUNK), strict=True)
    ]
    return torch.stack(parts).sum() if parts else logits.sum() * 0.0


def _part(logits: Tensor, targets: Tensor, first: int, softness: float) -> Tensor:
    if not softness:
        return functional.cross_entropy(logits.float(), targets, reduction='sum')
    chances = logits.float().log_softmax(-1)
    number = (targets >= first) & (targets < first + NUMBERS)
    plain = -chances.gather(-1, targets.unsqueeze(-1)).squeeze(-1)[~number].sum()
    spread = chances[:, first : first + NUMBERS][number]
    goal = _bell(targets[number] - first, softness)
    return plain + torch.special.xlogy(goal, goal).sum() - (goal * spread).sum()


def _bell(values: Tensor, softness: float) -> Tensor:
    """(N,) numbers in thousandths -> (N, 1001): normal distributions around them."""
    grid = torch.arange(NUMBERS, device=values.device, dtype=torch.float32)
    distance = (grid - values.float().unsqueeze(1)) / (1000 * softness)
    return torch.softmax(-0.5 * distance**2, dim=1)
