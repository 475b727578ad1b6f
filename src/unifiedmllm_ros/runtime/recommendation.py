"""Which published model suits a machine: sums over the catalogue, no measurement."""

from __future__ import annotations

from dataclasses import dataclass

from unifiedmllm_ros.runtime.catalogue import CATALOGUE, PublishedModel

DEDICATED_SHARE = 0.9
"""Part of a graphics card's memory that a model may fill."""
SHARED_SHARE = 0.6
"""The same where the system and the robot's other programs use the same memory (Jetson)."""
CPU_SHARE = 0.5
LEAST_RATE = 10.0
"""Tokens per second below which a larger model is no gain on a robot."""
EMBEDDED = 'tabletop-nano'


@dataclass(frozen=True)
class Machine:
    """What a model may use.

    memory: GiB of main memory. gpu_memory: GiB of the GPU, 0 without one; on a machine where both
    are the same memory (`unified`) the whole of it.
    capability: CUDA compute capability, such as (8, 7); None where it is not known.
    bandwidth: of the memory in GB/s, as the maker states it; None leaves the speed out of account.
    """

    memory: float
    gpu_memory: float = 0.0
    unified: bool = False
    capability: tuple[int, int] | None = None
    bandwidth: float | None = None

    @property
    def budget(self) -> float:
        """GiB that a model may take."""
        if not self.gpu_memory:
            return self.memory * CPU_SHARE
        return self.gpu_memory * (SHARED_SHARE if self.unified else DEDICATED_SHARE)


@dataclass(frozen=True)
class Choice:
    """One way to run a published model.

    dtype: of weights that are not quantised. quantisation: as in a local description, '' for none.
    need: GiB, computed. rate: most tokens per second, computed; None where it is not known.
    """

    model: PublishedModel
    dtype: str
    quantisation: str
    need: float
    rate: float | None

    def __str__(self) -> str:
        """In words, for a terminal."""
        precision = self.quantisation or self.dtype
        speed = '' if self.rate is None else f', at most {self.rate:.0f} tokens/s'
        return f'{self.model.repository} in {precision} ({self.need:.1f} GiB{speed})'


@dataclass(frozen=True)
class Recommendation:
    """What to run.

    choice: the published model, None where none fits and the embedded one remains.
    larger: a larger model that fits when it is quantised, None where there is none.
    reason: one sentence for the user.
    """

    choice: Choice | None
    larger: Choice | None
    reason: str

    @property
    def name(self) -> str:
        """What to give as model: a repository, or the embedded model."""
        return self.choice.model.repository if self.choice else EMBEDDED


def recommend(machine: Machine, *, commercial: bool = True) -> Recommendation:
    """Return the largest model that fits unquantised, and a larger one in 4 bits.

    Unquantised comes first because it loses nothing and needs no further library. Without a GPU
    only models that know tasks come into question: a language model of billions of parameters
    takes seconds for each word there. commercial: leave out what its licence bars from sale.
    """
    suited = [
        m for m in CATALOGUE if m.family not in _DETECTORS and (m.commercial or not commercial)
    ]
    if not machine.gpu_memory:
        return _without_gpu(machine, [m for m in suited if m.family == 'florence2'])
    whole = _first(machine, suited, 16)
    small = _first(machine, suited, 4)
    if whole is None and small is None:
        return Recommendation(None, None, f'no published model fits {machine.budget:.1f} GiB')
    if whole is None or small is None:
        return Recommendation(whole or small, None, _reason(machine))
    larger = small if small.model.parameters > whole.model.parameters else None
    return Recommendation(whole, larger, _reason(machine))


_DETECTORS = ('grounding-dino', 'owlv2')


def _without_gpu(machine: Machine, suited: list[PublishedModel]) -> Recommendation:
    smallest = suited[-1]
    need = smallest.need(32)
    if need > machine.budget:
        reason = f'there is no GPU, and {smallest.name} needs {need:.1f} GiB of main memory'
        return Recommendation(None, None, reason)
    choice = Choice(smallest, 'float32', '', need, None)
    reason = f'there is no GPU: {EMBEDDED} for simulated tables, this one for real pictures'
    return Recommendation(choice, None, reason)


def _first(machine: Machine, models: list[PublishedModel], bits: int) -> Choice | None:
    for model in models:
        need = model.need(bits)
        rate = model.rate(bits, machine.bandwidth) if machine.bandwidth else None
        if need <= machine.budget and (rate is None or rate >= LEAST_RATE):
            quantisation = 'bitsandbytes-4bit' if bits == 4 else ''
            return Choice(model, _dtype(machine), quantisation, need, rate)
    return None


def _dtype(machine: Machine) -> str:
    """bfloat16 needs an Ampere GPU (8.0) or a later one."""
    old = machine.capability is not None and machine.capability < (8, 0)
    return 'float16' if old else 'bfloat16'


def _reason(machine: Machine) -> str:
    kind = 'memory shared with the system' if machine.unified else 'memory of the GPU'
    share = SHARED_SHARE if machine.unified else DEDICATED_SHARE
    return f'{share:.0%} of {machine.gpu_memory:.0f} GiB {kind} is {machine.budget:.1f} GiB'
