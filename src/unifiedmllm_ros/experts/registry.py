"""Which expert does which task, and the experts that a configuration names."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

from unifiedmllm_ros.cancellation import Cancel, never
from unifiedmllm_ros.errors import (
    ConfigError,
    ExpertNotInstalledError,
    MissingExtraError,
    ModelFileError,
    UnknownTaskError,
)
from unifiedmllm_ros.experts.base import (
    Expert,
    OnProgress,
    Progress,
    Request,
    Result,
    unheard,
)
from unifiedmllm_ros.experts.configuration import ENTRY_POINTS, ExpertEntry, ExpertsConfig
from unifiedmllm_ros.experts.residency import (
    OnPosition,
    ResidencyManager,
    unheard_position,
)
from unifiedmllm_ros.locations import share
from unifiedmllm_ros.tasks import TASKS


@dataclass(frozen=True)
class ExpertStatus:
    """One line of the list of experts.

    state: busy, loaded, available or unavailable; reason: what is missing where it is unavailable,
    else the last failure to load it, if any. load_seconds: 0 until it was loaded.
    """

    name: str
    kind: str
    tasks: tuple[str, ...]
    state: str
    reason: str
    weights: str
    memory_mib: float
    licence: str
    non_commercial: bool = False
    device: str = 'cpu'
    load_seconds: float = 0.0


class ExpertRegistry:
    """Experts by task, loaded when first asked for, within the memory there is.

    All methods may be called from any thread.
    """

    def __init__(self, config: ExpertsConfig, folder: Path) -> None:
        """Take a configuration; relative weights are looked up from `folder`."""
        self.config = config
        self.residency = ResidencyManager(config.memory_mib)
        self._folder = folder
        self._built: dict[str, Expert] = {}
        self._building = threading.Lock()

    @classmethod
    def from_file(cls, path: Path | None = None) -> ExpertRegistry:
        """Read a configuration file, by default the package's own. Raises ConfigError."""
        path = path or share('config/experts.yaml')
        config = ExpertsConfig.from_file(path)
        return cls(config, path.parent)

    def name_for(self, task: str) -> str:
        """Return the name of the expert for a task.

        Raises UnknownTaskError for a task nobody registered, ExpertNotInstalledError where the
        configuration binds no expert to it.
        """
        if task not in TASKS:
            raise UnknownTaskError(
                f'task {task!r} is unknown: one of {", ".join(TASKS)}, or add it with '
                'register_task()'
            )
        if task not in self.config.tasks:
            kind = TASKS[task].expert
            fitting = [name for name, entry in self.config.experts.items() if entry.kind == kind]
            remedy = f'one of {", ".join(fitting)}' if fitting else f'an expert of kind {kind!r}'
            raise ExpertNotInstalledError(
                f'no expert does the task {task!r}: bind {remedy} to it under tasks in experts.yaml'
            )
        return self.config.tasks[task]

    def entry(self, name: str) -> ExpertEntry:
        """Return the entry of an expert by its name. Raises ConfigError where there is none."""
        if name not in self.config.experts:
            known = ', '.join(self.config.experts) or 'none'
            raise ConfigError(f'there is no expert {name!r} in experts.yaml: it has {known}')
        return self.config.experts[name]

    def weights(self, name: str) -> Path | None:
        """Return the full path of an expert's weights, None where it has none."""
        path = self.entry(name).weights
        return None if path is None else (self._folder / Path(path).expanduser()).resolve()

    def expert(self, task: str) -> Expert:
        """Return the loaded expert for a task; it may be unloaded when another needs room.

        Raises as `name_for` does, and ExpertNotInstalledError where its code or weights are
        missing, ModelFileError where they are damaged, OutOfMemoryError.
        """
        name = self.name_for(task)
        try:
            with self.residency.lease(self.get(name), self.entry(name).need) as expert:
                return expert
        except MissingExtraError as error:
            raise ExpertNotInstalledError(f'expert {name!r}: {error}') from error

    def run(
        self,
        request: Request,
        *,
        progress: OnProgress = unheard,
        on_position: OnPosition = unheard_position,
        cancel: Cancel = never,
        name: str = '',
    ) -> Result:
        """Carry out a request with the expert bound to its task, or with the one called `name`.

        progress: hears `queue` while others are before this request, `load` when the expert comes
        into memory, then the expert itself; it never falls. on_position: hears how many are before
        it, 0 when its turn has come.

        Raises as `expert` does, and whatever the expert raises; Cancelled while it waits too.
        """
        name = self._fitting(name, request.task) if name else self.name_for(request.task)
        rising = _Rising(progress)

        def moved(position: int) -> None:
            if position:
                rising(Progress('queue', 0.0))
            on_position(position)

        try:
            return self.residency.run(
                self.get(name),
                self.entry(name).need,
                lambda expert: expert.run(request, rising, cancel),
                on_position=moved,
                on_loading=lambda: rising(Progress('load', 0.0)),
                cancel=cancel,
            )
        except MissingExtraError as error:
            raise ExpertNotInstalledError(f'expert {name!r}: {error}') from error

    def _fitting(self, name: str, task: str) -> str:
        kind = self.entry(name).kind
        if task in TASKS and TASKS[task].expert != kind:
            raise ConfigError(
                f'expert {name!r} is of kind {kind!r} and the task {task!r} needs one of kind '
                f'{TASKS[task].expert!r}'
            )
        return name

    def unload(self, name: str) -> None:
        """Give back the memory of an expert; nothing to do where it is not loaded.

        Raises ConfigError for an unknown name, ExpertError while it is at work.
        """
        self.entry(name)
        self.residency.unload(name)

    def close(self) -> None:
        """Unload every expert; what is at work is unloaded at its end."""
        self.residency.close()

    def list(self) -> tuple[ExpertStatus, ...]:
        """Return all experts with their state: busy, loaded, available or unavailable."""
        return tuple(self._status(name) for name in self.config.experts)

    def get(self, name: str) -> Expert:
        """Return an expert by its name, loaded or not.

        Raises ConfigError for an unknown name and for options that it does not take,
        ExpertNotInstalledError where its code or its weights are missing.
        """
        with self._building:
            if name not in self._built:
                self._built[name] = self._build(name)
            elif not self.residency.residence(name).loaded:
                self._check_weights(name)
            return self._built[name]

    def _status(self, name: str) -> ExpertStatus:
        entry = self.config.experts[name]
        residence = self.residency.residence(name)
        state, reason = 'available', residence.error
        if residence.loaded:
            state = 'busy' if residence.busy else 'loaded'
        else:
            try:
                self.get(name)
            except (ExpertNotInstalledError, ConfigError, ModelFileError) as error:
                state, reason = 'unavailable', str(error)
        return ExpertStatus(
            name,
            entry.kind,
            tuple(task for task, bound in self.config.tasks.items() if bound == name),
            state,
            reason,
            str(self.weights(name) or ''),
            entry.memory_mib,
            entry.licence,
            entry.non_commercial,
            entry.need.device,
            residence.load_seconds,
        )

    def _check_weights(self, name: str) -> None:
        entry, weights = self.entry(name), self.weights(name)
        if weights is None or weights.exists():
            return
        fetch = f'fetch them with: unifiedmllm experts download {name}, ' if entry.repo else ''
        raise ExpertNotInstalledError(
            f'expert {name!r} has no weights at {weights}: {fetch}put them there or set another '
            'path in experts.yaml'
        )

    def _build(self, name: str) -> Expert:
        entry = self.entry(name)
        factory = _implementation(name, entry.implementation)
        self._check_weights(name)
        options = {**entry.defaults, **({'variant': entry.variant} if entry.variant else {})}
        try:
            return factory(name=name, weights=self.weights(name), **options)
        except TypeError as error:
            raise ConfigError(
                f'expert {name!r} does not take the defaults {options}: {error}'
            ) from error


class _Rising:
    """Passes progress on and never lets it fall, though work may be done a second time."""

    def __init__(self, heard: OnProgress) -> None:
        self._heard, self._highest = heard, 0.0

    def __call__(self, progress: Progress) -> None:
        if progress.fraction < self._highest:
            progress = Progress(progress.phase, self._highest, progress.preview)
        self._highest = progress.fraction
        self._heard(progress)


def _implementation(name: str, reference: str) -> Callable[..., Expert]:
    module, colon, attribute = reference.partition(':')
    try:
        if colon:
            found = getattr(importlib.import_module(module), attribute)
        else:
            found = entry_points(group=ENTRY_POINTS)[reference].load()
    except (ImportError, AttributeError, KeyError) as error:
        raise ExpertNotInstalledError(
            f'expert {name!r}: its implementation {reference!r} is not installed ({error}); '
            'install the package that brings it'
        ) from error
    return cast(Callable[..., Expert], found)
