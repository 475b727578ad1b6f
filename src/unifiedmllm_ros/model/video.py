"""Video: which frames are looked at, and how their features become a fixed number of tokens."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from unifiedmllm_ros.model.configuration import VideoConfig
from unifiedmllm_ros.model.projectors import MLPProjector


def uniform_frames(count: int, frames: int) -> NDArray[np.int64]:
    """Indices of `frames` frames spread evenly over a video of `count`, in order.

    Each one is the middle of its share; a video shorter than `frames` repeats some.

    Raises: ValueError: count or frames is below 1.
    """
    if count < 1 or frames < 1:
        raise ValueError(f'cannot pick {frames} frames of a video of {count}')
    return ((np.arange(frames) + 0.5) * count / frames).astype(np.int64)


class VideoTower(nn.Module):
    """Frame features, told apart by a learned temporal position, through a Q-Former and the MLP.

    As the video branch of Video-LLaMA (Zhang et al., 2023, arXiv 2306.02858, section 2.1.1) with
    the Q-Former of BLIP-2. The frames' features come from the image encoder, which is shared.
    """

    def __init__(self, config: VideoConfig, frame_width: int, hidden_size: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(0.02 * torch.randn(config.frames, frame_width))
        self.queries = nn.Parameter(0.02 * torch.randn(config.tokens, config.hidden_size))
        self.qformer = Blip2QFormerModel(_qformer_config(config, frame_width))
        self.projector = MLPProjector(config.hidden_size, hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        """(B, F, N, C), N features of each of F frames -> (B, tokens, D).

        Raises: ValueError: there are more frames than temporal positions.
        """
        videos, frames = features.shape[:2]
        if frames > len(self.positions):
            raise ValueError(
                f'{frames} frames for {len(self.positions)} temporal positions; '
                'pick them with uniform_frames()'
            )
        placed = features + self.positions[:frames, None].to(features.dtype)
        said = self.qformer(
            query_embeds=self.queries.expand(videos, -1, -1),
            encoder_hidden_states=placed.flatten(1, 2),
        )
        return self.projector(said.last_hidden_state)


def _qformer_config(config: VideoConfig, frame_width: int) -> Blip2QFormerConfig:
    return Blip2QFormerConfig(
        hidden_size=config.hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=config.intermediate_size,
        encoder_hidden_size=frame_width,
        # Short Q-Formers need to look at the frames in every layer.
        cross_attention_frequency=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
