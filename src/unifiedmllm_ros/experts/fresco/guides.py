"""What holds the frames of a batch together while a U-Net denoises them, attached to its layers.

The decoder's features are optimised where they enter its blocks; the self-attention of its last
two blocks, at 1/16 and 1/8 of the image, is guided. Both first learn from the unedited frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from unifiedmllm_ros.experts.fresco.attention import Guidance, GuidedAttention
from unifiedmllm_ros.experts.fresco.correspondence import Trajectories, cross_frame_mask
from unifiedmllm_ros.experts.fresco.features import optimised, smoothed
from unifiedmllm_ros.experts.fresco.pairs import FramePairs

_ATTENTION_FACTORS = (8, 16)
_GUIDED_BLOCKS = 2


@dataclass(eq=False)
class Guides:
    """The guides of one batch.

    pairs: the batch's frames. iterations: of each optimisation. background: (frames, 1, H, W) in
    [0, 1], or None. between: called before each iteration; may raise to stop.
    optimising: whether features are optimised now. losses: first and last of each optimisation.
    """

    pairs: FramePairs
    iterations: int
    background: Any
    between: Callable[[], None]
    attention: Guidance = field(default_factory=Guidance)
    optimising: bool = False
    losses: list[tuple[float, float]] = field(default_factory=list)
    _references: dict[int, Any] = field(default_factory=dict)

    @contextmanager
    def attached(self, unet: Any) -> Iterator[None]:
        """Guide the U-Net in the `with` block; afterwards it is as it was."""
        before = unet.attn_processors
        unet.set_attn_processor({**before, **self._processors(unet, before)})
        hooks = [
            block.register_forward_pre_hook(self._hook(level), with_kwargs=True)
            for level, block in enumerate(unet.up_blocks)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            unet.set_attn_processor(dict(before))

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Keep what the U-Net computes of the unedited frames, (frames, ...), for both copies."""
        self.attention.record = True
        try:
            yield
        finally:
            self.attention.record = False
        self.attention.stored = {k: torch.cat((v, v)) for k, v in self.attention.stored.items()}
        self._references = {k: torch.cat((v, v)) for k, v in self._references.items()}
        tokens = {factor: self.pairs.new_at(factor)[0].numel() for factor in _ATTENTION_FACTORS}
        self.attention.keys = {
            count: cross_frame_mask(self.pairs, factor) for factor, count in tokens.items()
        }
        self._paths = {
            count: Trajectories.of(self.pairs, factor) for factor, count in tokens.items()
        }

    def set_step(self, spatial: bool, temporal: bool, optimising: bool) -> None:
        """Say what guides the next step; attention across frames always does."""
        self.attention.spatial = spatial
        self.attention.trajectories = self._paths if temporal else {}
        self.optimising = optimising

    def _processors(self, unet: Any, before: dict[str, Any]) -> dict[str, Any]:
        first = len(unet.up_blocks) - _GUIDED_BLOCKS
        guided = tuple(f'up_blocks.{index}.' for index in range(first, len(unet.up_blocks)))
        return {
            name: GuidedAttention(name, self.attention)
            for name in before
            if name.startswith(guided) and name.endswith('attn1.processor')
        }

    def _hook(self, level: int) -> Callable[[Any, Any, Any], Any]:
        def enter(block: Any, args: Any, kwargs: Any) -> Any:
            features = args[0] if args else kwargs['hidden_states']
            changed = self._guided(level, features)
            if args:
                return (changed, *args[1:]), kwargs
            return args, {**kwargs, 'hidden_states': changed}

        return enter

    def _guided(self, level: int, features: Any) -> Any:
        if self.attention.record:
            self._references[level] = features
        if self.attention.record or not self.optimising:
            return features
        factor = self.pairs.frames.shape[-2] // features.shape[-2]
        motion, reference = self.pairs.at(factor), self._references[level]
        found, how = optimised(features, motion, reference, self.iterations, self.between)
        if how.losses:
            self.losses.append((how.losses[0], how.losses[-1]))
        if self.background is not None:
            found = smoothed(found, self.pairs, self.background)
        return found
