"""The engine of a GPU on which torch runs: no export, no build, steps replayed as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from unifiedmllm_ros.runtime.engine import Array, Row, check_rows
from unifiedmllm_ros.runtime.manifest import DEFAULT_LENGTH
from unifiedmllm_ros.runtime.slots import SlotCache
from unifiedmllm_ros.runtime.torch_engine import TorchEngine


class CapturedEngine(TorchEngine):
    """A TorchEngine whose cache is written in place and whose steps are recorded.

    It changes the model that it is given: LoRAMoE's layers and weights that are read together are
    stored otherwise from then on. On a CPU it computes the same without recording.
    """

    def __init__(self, model: Any, name: str, max_length: int = DEFAULT_LENGTH) -> None:
        """See TorchEngine."""
        from unifiedmllm_ros.runtime.graphs import simplify_experts
        from unifiedmllm_ros.runtime.replay import Recorder
        from unifiedmllm_ros.runtime.torch_decoder import TorchDecoder

        super().__init__(model, name, max_length)
        language_model = self._model.language_model
        simplify_experts(language_model)
        self._recorder = Recorder(self._device)
        self._encoders: dict[tuple[Any, tuple[int, ...]], tuple[Any, Callable[[], Any]]] = {}
        self._decoder = TorchDecoder(language_model, self.manifest, self._recorder)
        state = 'replayed as CUDA graphs' if self._recorder.records else 'not recorded'
        if self._decoder.fused:
            state += ', fused kernels'
        self._info = replace(self._info, shares_prefixes=True, state=state)

    def new_cache(self) -> SlotCache:  # type: ignore[override]
        """Return a cache of the empty sequence."""
        return self._decoder.new_cache()

    def step_all(self, rows: Sequence[Row]) -> list[Array]:
        """Append to sequences, all in one run; see Engine.step_all."""
        check_rows(self._info, rows)
        try:
            return self._decoder.step(rows)
        except (RuntimeError, IndexError) as error:
            raise self._failure(error) from error

    def _encoded(self, encode: Any, values: Array) -> Array:
        """Encode, recording each encoder once for each shape."""
        key = encode.__name__, values.shape
        try:
            with self._torch.inference_mode():
                if key not in self._encoders:
                    given = self._tensor(values).clone()
                    self._encoders[key] = given, self._recorder.record(lambda: encode(given))
                given, run = self._encoders[key]
                given.copy_(self._torch.from_numpy(np.ascontiguousarray(values)))
                return np.array(run().float().cpu())  # a copy: the tensor is written again
        except RuntimeError as error:
            raise self._failure(error) from error
