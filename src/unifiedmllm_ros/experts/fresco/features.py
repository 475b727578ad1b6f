"""Features of a batch of frames, pulled together along the flow while their layout is kept.

Features are (copies * frames, channels, h, w), all frames of one copy before those of the next;
the copies are those of classifier-free guidance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from unifiedmllm_ros.experts.fresco.pairs import FramePairs, Motion, warp

RATE = 0.2
SPATIAL_WEIGHT = 100.0
_TEMPORAL_WEIGHT = 2.0
# The published code adds this to the variance of the style; 1e-5 would be the usual value.
STYLE_EPSILON = 1.0
_EPSILON = 1e-5
_DILATION = 13


@dataclass(frozen=True)
class Optimisation:
    """What was done in one optimisation: the loss of each iteration."""

    losses: tuple[float, ...]


def directions(features: Any) -> Any:
    """Return the tokens of features as unit vectors, (n, tokens, channels)."""
    return functional.normalize(features.flatten(2).transpose(1, 2), dim=-1)


def gram(features: Any) -> Any:
    """Return the cosines between the tokens of each image, (n, tokens, tokens)."""
    unit = directions(features)
    return unit @ unit.transpose(1, 2)


def temporal_loss(features: Any, motion: Motion) -> Any:
    """Return how much the frames differ along the flow where both show the same (L1)."""
    frames = len(motion.forward)
    split = features.unflatten(0, (-1, frames))
    following = split.roll(-1, dims=1)
    total = features.new_zeros(())
    for here, there, flow, seen in (
        (split, following, motion.backward, motion.seen_backward),
        (following, split, motion.forward, motion.seen_forward),
    ):
        moved = torch.stack([warp(one, flow) for one in here])
        total = total + ((moved - there).abs() * seen).mean()
    return _TEMPORAL_WEIGHT * total


def spatial_loss(features: Any, reference: Any) -> Any:
    """Return how much the cosines between the tokens differ from those of the reference (L1)."""
    return (gram(features) - gram(reference)).abs().mean()


def optimised(
    features: Any,
    motion: Motion | None,
    reference: Any | None,
    iterations: int = 20,
    between: Callable[[], None] = lambda: None,
) -> tuple[Any, Optimisation]:
    """Return features that follow the motion and are laid out as the reference, and how it went.

    motion, reference: what to follow; None leaves it out. between: called before each iteration;
    may raise to stop. The statistics of each channel are those before (`transferred`). The cosines
    are compared one image at a time, so that memory does not grow with the batch.
    """
    found = features.detach().float().clone().requires_grad_(True)
    kept = None if reference is None else reference.detach().float()
    optimiser = torch.optim.Adam([found], lr=RATE)
    losses = []
    for _ in range(iterations):
        between()
        optimiser.zero_grad()
        with torch.enable_grad():
            losses.append(_descend(found, motion, kept))
        optimiser.step()
    moved = transferred(found.detach(), features.float())
    return moved.to(features.dtype), Optimisation(tuple(losses))


def _descend(features: Any, motion: Motion | None, reference: Any | None) -> float:
    """Add the gradient of the losses to the features; return the loss."""
    total = 0.0
    if motion is not None:
        loss = temporal_loss(features, motion)
        loss.backward()
        total += loss.item()
    if reference is not None:
        for index in range(len(features)):
            one = slice(index, index + 1)
            loss = SPATIAL_WEIGHT * spatial_loss(features[one], reference[one]) / len(features)
            loss.backward()
            total += loss.item()
    return total


def transferred(content: Any, style: Any, style_epsilon: float = STYLE_EPSILON) -> Any:
    """Return the content with the mean and deviation that each channel has in the style.

    Both (n, channels, h, w) (adaptive instance normalisation, Huang and Belongie, 2017).
    """
    axes = (2, 3)
    scale = (style.var(axes, keepdim=True) + style_epsilon).sqrt()
    spread = (content.var(axes, keepdim=True) + _EPSILON).sqrt()
    centred = (content - content.mean(axes, keepdim=True)) / spread
    return centred * scale + style.mean(axes, keepdim=True)


def smoothed(features: Any, pairs: FramePairs, background: Any) -> Any:
    """Return features whose background is that of the frame before, moved by the flow.

    background: (frames, 1, any, any) in [0, 1], 1 is background. The last frame takes from the
    first too. At full size what is hidden is dilated by 6 pixels.
    """
    frames, size = len(pairs), features.shape[-2:]
    factor = pairs.frames.shape[-2] // size[0]
    motion = pairs.at(factor)
    seen_forward, seen_backward = (
        _eroded(seen) if factor == 1 else seen
        for seen in (motion.seen_forward, motion.seen_backward)
    )
    share = functional.interpolate(background, size=size, mode='bilinear', align_corners=False)
    split = features.unflatten(0, (-1, frames)).clone()
    for index in range(frames - 1):
        _blend(split, index, index + 1, motion.backward[index], seen_backward[index], share)
    if frames > 1:
        _blend(split, 0, frames - 1, motion.forward[-1], seen_forward[-1], share)
    return split.flatten(0, 1)


def _blend(split: Any, source: int, target: int, flow: Any, seen: Any, share: Any) -> None:
    """Mix frame `source`, moved by the flow, into the background of frame `target`, in place."""
    flow = flow[None]
    weight = seen * warp(share[source][None], flow)[0] * share[target]
    moved = warp(split[:, source].float(), flow.expand(len(split), -1, -1, -1)).to(split.dtype)
    split[:, target] = split[:, target] * (1 - weight) + moved * weight


def _eroded(seen: Any) -> Any:
    return 1 - functional.max_pool2d(1 - seen, _DILATION, stride=1, padding=_DILATION // 2)
