"""A model of this machine from its description: one that writes, one that detects, or both."""

from __future__ import annotations

from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.model.adapters.registry import DETECTORS
from unifiedmllm_ros.model.protocol import MultimodalModel
from unifiedmllm_ros.runtime.local.checkpoint import check_family, find
from unifiedmllm_ros.runtime.local.description import LocalDescription, PairDescription


def load_local(description: LocalDescription | PairDescription, threads: int) -> MultimodalModel:
    """Load it; see LocalModel.load, DetectorModel.load and PairModel for the errors."""
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        from unifiedmllm_ros.errors import MissingExtraError

        raise MissingExtraError.naming(error.name or 'transformers', 'vlm') from error
    if isinstance(description, PairDescription):
        return _pair(description, threads)
    checkpoint = find(description.weights, description.folder)
    if check_family(checkpoint, description.family) in DETECTORS:
        from unifiedmllm_ros.runtime.local.detector import DetectorModel

        return DetectorModel.load(description, threads=threads)
    from unifiedmllm_ros.runtime.local.model import LocalModel

    return LocalModel.load(description, threads=threads)


def _pair(description: PairDescription, threads: int) -> MultimodalModel:
    from unifiedmllm_ros.runtime.loading import load_model
    from unifiedmllm_ros.runtime.local.detector import DetectorModel
    from unifiedmllm_ros.runtime.local.pair import PairModel

    fast = load_model(_beside(description, description.fast), threads=threads)
    if not isinstance(fast, DetectorModel):
        raise ConfigError(
            f'fast is {description.fast}, which is no detector: take Grounding DINO or OWLv2'
        )
    slow = load_model(_beside(description, description.slow), threads=threads)
    if isinstance(slow, DetectorModel | PairModel):
        raise ConfigError(f'slow is {description.slow}, which reads no instructions')
    return PairModel(slow, fast, description.refresh)


def _beside(description: PairDescription, name: str) -> str:
    """A folder or file that lies beside the description, else the name itself."""
    place = description.folder / name
    return str(place) if place.exists() else name
