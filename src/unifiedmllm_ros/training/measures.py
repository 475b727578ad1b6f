"""What a run costs: tokens and samples a second, waiting for data, memory, use of the device."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

PEAKS = {
    'H200': 989e12,
    'H100': 989e12,
    'A100': 312e12,
    'L40': 181e12,
    'L4': 121e12,
    'A10': 125e12,
    'RTX 5090': 209e12,
    'RTX 4090': 165e12,
    'RTX 3090': 71e12,
    'Orin': 43e12,
}
"""Dense bfloat16 operations a second, from the vendor's data sheets; the first name that fits."""


@dataclass
class Measures:
    """Sums over the steps of this process since it started or resumed.

    The first step is counted apart: it compiles and warms up.
    """

    steps: int = 0
    samples: int = 0
    tokens: int = 0
    learnt: int = 0
    cut: int = 0
    waited: float = 0.0
    worked: float = 0.0
    first_step: float = 0.0
    operations: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def add(self, tokens: int, samples: int, waited: float, seconds: float) -> None:
        """Count a step of `seconds`, `waited` of them for data."""
        self.steps += 1
        if self.steps == 1:
            self.first_step = seconds
            return
        self.tokens += tokens
        self.samples += samples
        self.waited += waited
        self.worked += seconds

    def report(self, processes: int = 1) -> dict[str, Any]:
        """The figures, over all processes; None where there is nothing to say."""
        peak = peak_of(device_name())
        busy = max(self.worked, 1e-9)
        rate = self.operations / busy if self.worked else 0.0
        return {
            'steps_measured': max(0, self.steps - 1),
            'tokens_per_second': round(processes * self.tokens / busy, 1),
            'samples_per_second': round(processes * self.samples / busy, 2),
            'seconds_per_step': round(busy / max(1, self.steps - 1), 4),
            'first_step_seconds': round(self.first_step, 2),
            'waiting_for_data': round(self.waited / busy, 4),
            'peak_memory_mib': round(peak_memory() / 2**20),
            'operations_per_second': rate,
            'mfu': None if peak is None or not rate else round(rate / peak, 4),
            'device': device_name(),
            'cut_samples': self.cut,
        }


def operations_per_token(model: nn.Module) -> float:
    """Operations of one token forward and backward, by the parameters of the language model.

    Two a parameter forward, two for the gradient of what comes before it, two for its own gradient
    where it learns (Kaplan et al., 2020, appendix B); attention and embeddings are left out.
    """
    total = 0.0
    for name, module in model.named_modules():
        if 'language_model' in name and isinstance(module, nn.Linear) and 'lm_head' not in name:
            weight = module.weight
            total += weight.numel() * (6 if weight.requires_grad else 4)
    return total


def operations_per_answer_token(model: nn.Module) -> float:
    """What the output layer costs for each token that is learnt."""
    head = getattr(model, 'get_output_embeddings', lambda: None)()
    base = model.get_base_model() if hasattr(model, 'get_base_model') else model
    head = head or base.language_model.get_output_embeddings()
    weight = head.weight
    return float(weight.numel() * (6 if weight.requires_grad else 4))


def device_name() -> str:
    """The accelerator, or cpu."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu'


def peak_of(device: str) -> float | None:
    """Operations a second that a device can do at most, None where that is not known."""
    return next((peak for name, peak in PEAKS.items() if name in device), None)


def peak_memory() -> int:
    """Most bytes that this process has held: of the accelerator, else of the machine."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else peak * 1024
