"""Which experts are in memory, and whose turn it is.

Each device (cpu, cuda:0 ...) has a budget and one lease. Who wants to work there waits in a queue,
first come, first served; who holds the lease finds its expert loaded, for which the least recently
used ones have made room. It knows nothing of tasks and imports no framework.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from unifiedmllm_ros.cancellation import Cancel, check, never
from unifiedmllm_ros.errors import ExpertError, OutOfMemoryError
from unifiedmllm_ros.experts.base import Expert
from unifiedmllm_ros.experts.device_memory import (
    default_budget,
    device_key,
    empty_caches,
    is_out_of_memory,
)

T = TypeVar('T')
OnPosition = Callable[[int], None]
OnLoading = Callable[[], None]

# Less than this is not worth looking through everything that Python holds.
_WORTH_COLLECTING_MIB = 256.0
# How often somebody who waits looks whether it was cancelled.
_POLL_S = 0.05


def unheard_position(position: int) -> None:
    """The `OnPosition` of a caller that does not listen."""


def unheard_loading() -> None:
    """The `OnLoading` of a caller that does not listen."""


@dataclass(frozen=True)
class Need:
    """What an expert takes: its device, MiB while loaded, and the least it can do with, offloaded.

    least_mib 0: it needs all of `mib`.
    """

    device: str = 'cpu'
    mib: float = 0.0
    least_mib: float = 0.0


@dataclass(frozen=True)
class Residence:
    """How an expert stands: in memory or not, at work or not, and what loading it took."""

    loaded: bool = False
    busy: bool = False
    load_seconds: float = 0.0
    error: str = ''


class _Device:
    """The queue of one device; whoever stands first in it has the lease."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.queue: list[object] = []
        self.holder = 0  # the thread that has the lease
        self.name = ''  # of the expert that it works with


class _Resident:
    def __init__(self, expert: Expert, need: Need) -> None:
        self.expert, self.need = expert, need
        self.loaded = False
        self.busy = 0
        self.retired = False
        self.used = 0.0
        self.load_seconds = 0.0
        self.error = ''


class ResidencyManager:
    """Loads experts on demand within a budget and lets one at a time work on each device.

    All methods may be called from any thread.
    """

    def __init__(self, budgets_mib: Mapping[str, float] | None = None) -> None:
        """Take budgets in MiB by device; a device without one gets three quarters of the machine's
        memory (cpu) or nine tenths of the GPU's."""
        self._budgets = {device_key(name): mib for name, mib in (budgets_mib or {}).items()}
        self._lock = threading.RLock()
        self._devices: dict[str, _Device] = {}
        self._residents: dict[str, _Resident] = {}

    def budget(self, device: str) -> float:
        """Return the budget of a device in MiB."""
        device = device_key(device)
        with self._lock:
            if device not in self._budgets:
                self._budgets[device] = default_budget(device)
            return self._budgets[device]

    def used(self, device: str) -> float:
        """Return what the loaded experts of a device take, in MiB."""
        device = device_key(device)
        with self._lock:
            return sum(
                self._charge(one)
                for one in self._residents.values()
                if one.loaded and device_key(one.need.device) == device
            )

    def residence(self, name: str) -> Residence:
        """Return how an expert stands."""
        with self._lock:
            one = self._residents.get(name)
            if one is None:
                return Residence()
            return Residence(one.loaded, one.busy > 0, one.load_seconds, one.error)

    @contextmanager
    def lease(
        self,
        expert: Expert,
        need: Need,
        *,
        on_position: OnPosition = unheard_position,
        on_loading: OnLoading = unheard_loading,
        cancel: Cancel = never,
    ) -> Iterator[Expert]:
        """Wait for the expert's device, load the expert, and hold both.

        on_position: hears how many are before this caller, at each change; 0 is its turn.
        on_loading: hears that the expert is not in memory and now comes into it.

        A thread that holds the device already does not wait for it again.

        Raises:
            Cancelled: while waiting.
            OutOfMemoryError: it is larger than the budget, or did not fit with all others unloaded.
            ModelFileError, MissingExtraError, ConfigError: from `load()`.
        """
        with self._turn(need.device, expert.name, on_position, cancel):
            resident = self._resident(expert, need)
            with self._at_work(resident):
                self._load(resident, on_loading)
                yield resident.expert

    def run(
        self,
        expert: Expert,
        need: Need,
        work: Callable[[Expert], T],
        *,
        on_position: OnPosition = unheard_position,
        on_loading: OnLoading = unheard_loading,
        cancel: Cancel = never,
    ) -> T:
        """Do `work` with the loaded expert while holding its device; raises as `lease` does.

        Where memory runs out all others on the device are unloaded, the expert is loaded afresh,
        and the work is done once more; OutOfMemoryError where that does not help either.
        """
        heard = {'on_position': on_position, 'on_loading': on_loading, 'cancel': cancel}
        with self._turn(need.device, expert.name, on_position, cancel):
            try:
                with self.lease(expert, need, **heard) as loaded:  # type: ignore[arg-type]
                    return work(loaded)
            except Exception as error:
                if not is_out_of_memory(error) or isinstance(error, _BeyondBudget):
                    raise
                # The frames of the first try hold what it had allocated.
                error.__traceback__ = None
            self._evict_all(need.device)
            try:
                with self.lease(expert, need, **heard) as loaded:  # type: ignore[arg-type]
                    return work(loaded)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._evict_all(need.device)
                raise OutOfMemoryError(
                    f'expert {expert.name!r} does not fit into the memory of {need.device}, even '
                    f'alone ({_first_line(error)}): ask for a smaller image or fewer frames, use '
                    'a smaller expert, or a device with more memory'
                ) from error

    def unload(self, name: str) -> None:
        """Give back the memory of an expert; nothing to do where it is not loaded.

        Raises ExpertError while it is at work.
        """
        with self._lock:
            one = self._residents.get(name)
            if one is None or not one.loaded:
                return
            if one.busy:
                raise ExpertError(
                    f'expert {name!r} is at work: cancel its job, or wait for its end'
                )
            self._drop(one)

    def close(self) -> None:
        """Unload everything; what is at work is unloaded at its end."""
        with self._lock:
            for one in self._residents.values():
                if one.busy:
                    one.retired = True
                elif one.loaded:
                    self._drop(one)

    # Turns.

    @contextmanager
    def _turn(
        self, device: str, name: str, on_position: OnPosition, cancel: Cancel
    ) -> Iterator[None]:
        place = self._device(device)
        if place.holder == threading.get_ident():
            yield
            return
        ticket = object()
        with place.changed:
            place.queue.append(ticket)
        try:
            self._wait(place, ticket, name, on_position, cancel)
            place.holder, place.name = threading.get_ident(), name
            yield
        finally:
            with place.changed:
                if place.holder == threading.get_ident():
                    place.holder, place.name = 0, ''
                place.queue.remove(ticket)
                place.changed.notify_all()

    @staticmethod
    def _wait(
        place: _Device, ticket: object, name: str, on_position: OnPosition, cancel: Cancel
    ) -> None:
        told = None
        while told != 0:
            check(cancel, f'the wait for expert {name}')
            with place.changed:
                position = place.queue.index(ticket)
                if position == told:
                    place.changed.wait(_POLL_S)
                    position = place.queue.index(ticket)
            if position != told:
                on_position(position)
                told = position

    def _device(self, device: str) -> _Device:
        with self._lock:
            return self._devices.setdefault(device_key(device), _Device())

    # Memory; the device's lease is held.

    def _resident(self, expert: Expert, need: Need) -> _Resident:
        with self._lock:
            one = self._residents.get(expert.name)
            if one is None or one.expert is not expert:
                one = self._residents[expert.name] = _Resident(expert, need)
            return one

    @contextmanager
    def _at_work(self, one: _Resident) -> Iterator[None]:
        with self._lock:
            one.busy += 1
        try:
            yield
        finally:
            with self._lock:
                one.busy -= 1
                one.used = time.monotonic()
                if one.retired and not one.busy:
                    one.retired = False
                    if one.loaded:
                        self._drop(one)

    def _load(self, one: _Resident, on_loading: OnLoading) -> None:
        if one.loaded:
            return
        self._make_room(one)
        on_loading()
        start = time.perf_counter()
        try:
            one.expert.load()
        except BaseException as error:
            one.error = _first_line(error)
            _release(one.expert, one.need.mib)
            raise
        with self._lock:
            one.loaded, one.error = True, ''
            one.load_seconds = time.perf_counter() - start

    def _make_room(self, one: _Resident) -> None:
        device, budget = device_key(one.need.device), self.budget(one.need.device)
        least = one.need.least_mib or one.need.mib
        if least > budget:
            raise _BeyondBudget(
                f'expert {one.expert.name!r} needs {least:.0f} MiB and the budget of {device} is '
                f'{budget:.0f} MiB: raise it under memory_mib in experts.yaml, or bind a smaller '
                'expert'
            )
        with self._lock:
            while self.used(device) + self._charge(one) > budget:
                idle = [r for r in self._loaded_on(device) if not r.busy and r is not one]
                if not idle:
                    break  # a thread that works with several at once keeps them all
                self._drop(min(idle, key=lambda r: r.used))

    def _charge(self, one: _Resident) -> float:
        """What it takes from the budget: all of it at most, for then it is offloaded."""
        return min(one.need.mib, self.budget(one.need.device))

    def _loaded_on(self, device: str) -> list[_Resident]:
        return [
            one
            for one in self._residents.values()
            if one.loaded and device_key(one.need.device) == device
        ]

    def _evict_all(self, device: str) -> None:
        with self._lock:
            for one in self._loaded_on(device_key(device)):
                if not one.busy:
                    self._drop(one)
        empty_caches()

    @staticmethod
    def _drop(one: _Resident) -> None:
        one.loaded = False
        _release(one.expert, one.need.mib)


class _BeyondBudget(OutOfMemoryError):
    """Known before anything was tried: trying again changes nothing."""


def _release(expert: Expert, mib: float) -> None:
    expert.unload()
    if mib >= _WORTH_COLLECTING_MIB:
        empty_caches()


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
