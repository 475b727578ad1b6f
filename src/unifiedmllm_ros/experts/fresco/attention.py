"""Self-attention across the frames of a batch, guided by what the frames were before the edit.

Queries may be regrouped by how the unedited frames attend to themselves (spatial); keys and values
are those of all frames, without repetition (cross-frame); the outcome is mixed along each token's
trajectory (temporal).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch.nn import functional

from unifiedmllm_ros.experts.fresco.correspondence import Trajectories

SPATIAL_SCALE = 0.2
TEMPORAL_SCALE = 0.2


@dataclass(eq=False)
class Guidance:
    """What the attention layers of a batch share; tables are by the number of tokens of a frame.

    record: keep the layers' inputs instead of guiding. stored: these inputs, by layer.
    spatial: whether stored inputs regroup the queries. keys: (frames, tokens) bool, or nothing for
    each frame by itself. trajectories: along which the outcome is mixed, or nothing.
    """

    record: bool = False
    spatial: bool = False
    stored: dict[str, Any] = field(default_factory=dict)
    keys: Mapping[int, Any] = field(default_factory=dict)
    trajectories: Mapping[int, Trajectories] = field(default_factory=dict)


class GuidedAttention:
    """An attention processor of diffusers for a self-attention layer; cross-attention is plain.

    name: of the layer, for what is stored. guidance: shared by all layers, changed between steps.
    """

    def __init__(self, name: str, guidance: Guidance) -> None:
        self._name = name
        self._guidance = guidance

    def __call__(
        self,
        attn: Any,
        hidden_states: Any,
        encoder_hidden_states: Any = None,
        attention_mask: Any = None,
        temb: Any = None,
    ) -> Any:
        """hidden_states (copies * frames, tokens, width) -> the same shape."""
        guide = self._guidance
        guided = encoder_hidden_states is None
        if guided and guide.record:
            guide.stored[self._name] = hidden_states
            guided = False
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = heads(attn.to_q(hidden_states), attn.heads)
        key, value = heads(attn.to_k(context), attn.heads), heads(attn.to_v(context), attn.heads)
        tokens = hidden_states.shape[1]
        regrouped = query
        if guided and guide.spatial:
            stored = guide.stored[self._name]
            reader, read = (heads(one(stored), attn.heads) for one in (attn.to_q, attn.to_k))
            regrouped = _attended(reader, read, query, SPATIAL_SCALE)
        near, far = key, value
        if guided and tokens in guide.keys:
            near, far = (shared(one, guide.keys[tokens]) for one in (key, value))
        outcome = _attended(regrouped, near, far)
        if guided and tokens in guide.trajectories:
            outcome = _along(query, key, outcome, guide.trajectories[tokens])
        joined = outcome.transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](joined))


def heads(states: Any, count: int) -> Any:
    """Return (batch, tokens, width) as (batch, heads, tokens, width of a head)."""
    return states.unflatten(-1, (count, -1)).transpose(1, 2)


def shared(states: Any, chosen: Any) -> Any:
    """Return the chosen tokens of all frames for each frame.

    states: (copies * frames, heads, tokens, width); chosen: (frames, tokens) bool.
    """
    frames = len(chosen)
    split = states.unflatten(0, (-1, frames)).transpose(1, 2).flatten(2, 3)
    return split[:, :, chosen.flatten()].repeat_interleave(frames, dim=0)


def _attended(query: Any, key: Any, value: Any, sharpness: float = 1.0, mask: Any = None) -> Any:
    scale = sharpness * query.shape[-1] ** -0.5
    return functional.scaled_dot_product_attention(query, key, value, mask, scale=scale)


def _along(query: Any, key: Any, value: Any, paths: Trajectories) -> Any:
    """Attend along the trajectories; all are (copies * frames, heads, tokens, width)."""
    query, key, value = (
        _lined(one, paths.forward).permute(0, 2, 3, 1, 4) for one in (query, key, value)
    )
    mixed = _attended(query, key, value, TEMPORAL_SCALE, paths.together)
    back = _lined(mixed.permute(0, 3, 1, 2, 4).flatten(0, 1), paths.backward)
    return back.flatten(0, 1)


def _lined(states: Any, order: Any) -> Any:
    """(copies * frames, heads, tokens, w), each frame's tokens in its order, copies split off."""
    split = states.unflatten(0, (-1, len(order)))
    index = order[None, :, None, :, None].expand_as(split)
    return split.gather(3, index)
