"""The engine of a GPU on which torch runs: no export, no build, steps replayed as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
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

    def __init__(
        self, model: Any, name: str, max_length: int = DEFAULT_LENGTH, fused: bool = True
    ) -> None:
        """See TorchEngine; fused: use kernels of ours where they fit the model."""
        from unifiedmllm_ros.runtime.cuda_graphs import Recorder
        from unifiedmllm_ros.runtime.graphs import simplify_experts
        from unifiedmllm_ros.runtime.torch_decoder import TorchDecoder

        super().__init__(model, name, max_length)
        language_model = self._model.language_model
        simplify_experts(language_model)
        self._recorder = Recorder(self._device)
        self._encoders: dict[str, Callable[[Any], Any]] = {}
        self._recorded: dict[tuple[str, tuple[int, ...]], tuple[Any, Callable[[], Any]]] = {}
        self._decoder = TorchDecoder(language_model, self.manifest, self._recorder, fused)
        if self._recorder.records:
            self._torch.cuda.empty_cache()  # what putting weights together has left
        state = 'replayed as CUDA graphs' if self._recorder.records else 'not recorded'
        if self._decoder.fused:
            state += ', fused kernels'
        self._info = replace(self._info, shares_prefixes=True, state=state)

    def new_cache(self) -> SlotCache:  # type: ignore[override]
        """Return a cache of the empty sequence; GpuMemoryError where there is no room for one."""
        try:
            return self._decoder.new_cache()
        except RuntimeError as error:
            raise self._failure(error) from error

    def step_all(self, rows: Sequence[Row]) -> list[Array]:
        """Append to sequences, all in one run; see Engine.step_all."""
        check_rows(self._info, rows)
        try:
            return self._decoder.step(rows)
        except (RuntimeError, IndexError) as error:
            raise self._failure(error) from error

    def _encoded(self, medium: str, values: Array) -> Array:
        """Encode a batch, recording each encoder once for each shape."""
        torch, key = self._torch, (medium, values.shape)
        given = torch.from_numpy(np.ascontiguousarray(values, np.float32))
        try:
            with torch.inference_mode():
                if key not in self._recorded:
                    encode, held = self._encoder(medium), given.to(self._device, copy=True)
                    self._recorded[key] = held, self._recorder.record(partial(encode, held))
                held, run = self._recorded[key]
                held.copy_(given)
                return np.array(run().cpu())  # a copy: the tensor is written again
        except RuntimeError as error:
            raise self._failure(error) from error

    def _encoder(self, medium: str) -> Callable[[Any], Any]:
        """Return an encoder as it is exported, which leaves nothing to the CPU."""
        if medium not in self._encoders:
            from unifiedmllm_ros.runtime.graphs import AudioGraph, VideoGraph, VisionGraph

            makers: dict[str, Callable[[], Any]] = {
                'image': lambda: VisionGraph(self._model),
                'video': lambda: VideoGraph(self._model),
                'audio': lambda: AudioGraph(self._model.audio_tower),
            }
            graph = makers[medium]().to(self._device).eval()
            self._encoders[medium] = (lambda one: graph(one[0])) if medium == 'video' else graph
        return self._encoders[medium]
