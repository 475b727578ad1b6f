"""How a model is exported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from unifiedmllm_ros.runtime.calibration import Example
from unifiedmllm_ros.runtime.onnx_files import EXTERNAL_ABOVE
from unifiedmllm_ros.runtime.quantisation import Bits

Precision = Literal['fp32', 'fp16', 'bf16', 'int8', 'int4']
Target = Literal['onnx', 'tensorrt']
PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)
TARGETS: Final[tuple[Target, ...]] = get_args(Target)
_BITS: Final[dict[str, Bits]] = {'int8': 8, 'int4': 4}


@dataclass(frozen=True)
class ExportOptions:
    """How a model is exported.

    precision: of the decoder, and of encoders that are plain transformers; int8 and int4 are that
    of the weights alone. target: whose form of integer weights. half_weights: round the weights to
    float16, as models are saved, and store them so wherever nothing is lost by it. max_length:
    positions of the longest sequence, by default 1024 or as many as the language model has.
    external_above: bytes of weights from which they lie in a file of their own. examples: by which
    matrices that do not bear the decoder's integer weights are found and spared; only for 'onnx'.
    int8_vision: convolutions of a region encoder in 8 bits, their ranges set by the examples.
    """

    precision: Precision = 'fp32'
    target: Target = 'onnx'
    half_weights: bool = True
    max_length: int | None = None
    external_above: int = EXTERNAL_ABOVE
    examples: tuple[Example, ...] = ()
    int8_vision: bool = False

    @property
    def bits(self) -> Bits | None:
        """Of the decoder's weights, None where they are no integers."""
        return _BITS.get(self.precision)

    @property
    def arithmetic(self) -> Precision:
        """What the decoder computes in: TensorRT has no float32 products of integer weights."""
        if self.bits:
            return 'fp16' if self.target == 'tensorrt' else 'fp32'
        return self.precision
