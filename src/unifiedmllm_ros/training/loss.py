"""The loss of answers: next token, a coordinate's target spread over its neighbours if wanted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unifiedmllm_ros.model.modeling import NUMBERS
from unifiedmllm_ros.training.encoding import IGNORED


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
    if not len(targets):
        return logits.sum() * 0.0
    loss: Tensor = _AnswerLoss.apply(logits, targets, first_number, softness)
    return loss


class _AnswerLoss(torch.autograd.Function):
    """With the gradient written down: on a CPU a third of the time that autograd's takes."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, first: int, softness: float) -> Tensor:
        total = torch.logsumexp(logits.float(), dim=-1)
        number = (targets >= first) & (targets < first + NUMBERS) & (softness > 0)
        goal = _bell(targets[number] - first, max(softness, 1e-9))
        plain = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1).float()[~number]
        spread = logits[number, first : first + NUMBERS].float()
        ctx.save_for_backward(logits, targets, total, number, goal)
        ctx.first = first
        meant = plain.sum() + (goal * spread).sum()
        return total.sum() - meant + torch.special.xlogy(goal, goal).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        logits, targets, total, number, goal = ctx.saved_tensors
        chances = (logits.float() - total.unsqueeze(-1)).exp_()
        rows = torch.nonzero(~number).squeeze(-1)
        chances[rows, targets[rows]] -= 1.0
        chances[number, ctx.first : ctx.first + NUMBERS] -= goal
        return chances.mul_(gradients[0]).to(logits.dtype), None, None, None


def distillation_loss(logits: Tensor, taught: Tensor) -> Tensor:
    """Kullback-Leibler divergence from a teacher's distributions, summed over M tokens.

    Args:
        logits, taught: (M, vocabulary) of the model that learns and of the teacher.

    Hinton et al., 2015, arXiv 1503.02531, at temperature 1.
    """
    said, meant = (torch.log_softmax(each.float(), dim=-1) for each in (logits, taught))
    return torch.nn.functional.kl_div(said, meant, reduction='sum', log_target=True)


def _bell(values: Tensor, softness: float) -> Tensor:
    """(N,) numbers in thousandths -> (N, 1001): normal distributions around them."""
    grid = torch.arange(NUMBERS, device=values.device, dtype=torch.float32)
    distance = (grid - values.float().unsqueeze(1)) / (1000 * softness)
    return torch.softmax(-0.5 * distance**2, dim=1)
