"""Functions of tensors on a GPU, recorded once as a CUDA graph and replayed.

A small model is a few hundred short operators, which Python and the driver start more slowly than
the GPU computes them. A replay starts them all at once. It computes with the same memory every
time: what changes is written into the tensors that the function was recorded with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Recorder:
    """Records functions for one device; on a CPU they are called as they are.

    All graphs take their memory from one pool, since only one of them runs at a time.
    """

    def __init__(self, device: Any) -> None:
        """device: a torch.device."""
        import torch

        self._torch = torch
        self.device = device
        self.records = device.type == 'cuda'
        self._pool: Any = None
        if self.records:
            # A pool ends with its last graph; this one stays.
            self._first = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._first):
                torch.zeros(1, device=device)
            self._pool = self._first.pool()

    def record(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Return what computes `function` anew, into the tensor that it gave when recorded.

        The function has been run before this returns, as libraries set themselves up in the first
        run of each shape. It must take no tensor from the CPU and give one of the device.
        """
        if not self.records:
            return function
        torch = self._torch
        aside = torch.cuda.Stream(self.device)
        aside.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(aside):
            function()
        torch.cuda.current_stream(self.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            given = function()

        def replay() -> Any:
            graph.replay()
            return given

        return replay
