"""The sizes of a SEEM model and those of the two published ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BackboneConfig:
    """A FocalNet (Yang et al., 2022).

    depthwise: 3x3 depthwise residual convolutions before each branch, and the layer norm after the
    residual sum (Focal-T); without them the norm is inside the branch (Focal-L).
    stem_padding: of the 7x7 stride-4 stem; it cannot be told from the shapes of the weights.
    """

    width: int
    depths: tuple[int, ...]
    levels: int
    stem_padding: int
    depthwise: bool
    window: int = 3
    window_step: int = 2
    mlp_ratio: float = 4.0


@dataclass(frozen=True)
class SeemConfig:
    """A SEEM model; `dim` is the width of pixel decoder, query decoder and text projection."""

    backbone: BackboneConfig
    dim: int = 512
    heads: int = 8
    feedforward: int = 2048
    encoder_layers: int = 6
    decoder_layers: int = 9
    levels: int = 3
    queries: int = 101
    points: int = 512
    text_width: int = 512
    text_heads: int = 8
    text_layers: int = 12
    vocabulary: int = 49_408
    context: int = 77


FOCAL_T = SeemConfig(BackboneConfig(96, (2, 2, 6, 2), levels=3, stem_padding=3, depthwise=True))
FOCAL_L = SeemConfig(BackboneConfig(192, (2, 2, 18, 2), levels=4, stem_padding=2, depthwise=False))
VARIANTS = {'focal_t': FOCAL_T, 'focal_l': FOCAL_L}
