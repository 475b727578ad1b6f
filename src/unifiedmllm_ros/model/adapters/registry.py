"""The adapters by name."""

from __future__ import annotations

from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.model.adapters.base import Adapter
from unifiedmllm_ros.model.adapters.detectors import GROUNDING_DINO, OWLV2, DetectorAdapter
from unifiedmllm_ros.model.adapters.florence2 import Florence2Adapter
from unifiedmllm_ros.model.adapters.kosmos2 import Kosmos2Adapter
from unifiedmllm_ros.model.adapters.native import NativeAdapter
from unifiedmllm_ros.model.adapters.paligemma import PaliGemmaAdapter
from unifiedmllm_ros.model.adapters.qwen import QwenAdapter

ADAPTERS: dict[str, Adapter] = {
    adapter.name: adapter
    for adapter in (
        QwenAdapter('qwen2.5-vl', relative=False),
        QwenAdapter('qwen3-vl', relative=True),
        Florence2Adapter(),
        PaliGemmaAdapter(),
        Kosmos2Adapter(),
        NativeAdapter(),
    )
}
"""Models that write their answer as text."""

DETECTORS: dict[str, DetectorAdapter] = {
    adapter.name: adapter
    for adapter in (
        DetectorAdapter(GROUNDING_DINO, padded=False, threshold=0.3),
        DetectorAdapter(OWLV2, padded=True, threshold=0.2),
    )
}
"""Models that give boxes and scores."""


def adapter(name: str) -> Adapter:
    """Return the adapter of a family of models that write text. Raises ConfigError."""
    if name not in ADAPTERS:
        raise ConfigError(f'there is no adapter {name!r}: one of {", ".join(ADAPTERS)}')
    return ADAPTERS[name]
