"""Which expert does which task: `config/experts.yaml`, checked, and the experts it names."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field

from unifiedmllm_ros.errors import (
    ConfigError,
    ExpertNotInstalledError,
    MissingExtraError,
    ModelFileError,
    UnknownTaskError,
)
from unifiedmllm_ros.experts.base import Expert
from unifiedmllm_ros.locations import share
from unifiedmllm_ros.tasks import TASKS

ENTRY_POINTS = 'unifiedmllm_ros.experts'


class ExpertEntry(BaseModel):
    """One expert of the configuration file."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    implementation: str = Field(
        min_length=1,
        description=f'`module:Class`, or the name of an entry point of the group {ENTRY_POINTS}',
    )
    kind: str = Field(min_length=1, description='what it does, as the tasks name it')
    weights: str | None = Field(
        default=None, description='file or folder of the weights, relative to the configuration'
    )
    memory_mib: float = Field(default=0.0, ge=0.0, description='memory it needs while loaded')
    licence: str = Field(default='', description='licence of the weights')
    defaults: dict[str, Any] = Field(
        default_factory=dict, description='options of the implementation'
    )


class ExpertsConfig(BaseModel):
    """The whole configuration file."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    experts: dict[str, ExpertEntry] = Field(description='experts by name')
    tasks: dict[str, str] = Field(description='the name of the expert for each task')

    @pydantic.model_validator(mode='after')
    def _check_bindings(self) -> ExpertsConfig:
        for task, name in self.tasks.items():
            if task not in TASKS:
                raise ValueError(f'task {task!r} is not registered: one of {", ".join(TASKS)}')
            if name not in self.experts:
                known = ', '.join(self.experts) or 'none'
                raise ValueError(
                    f'task {task!r} names the expert {name!r}, which is none of {known}'
                )
            if self.experts[name].kind != TASKS[task].expert:
                raise ValueError(
                    f'task {task!r} needs an expert of kind {TASKS[task].expert!r}; {name!r} is of '
                    f'kind {self.experts[name].kind!r}'
                )
        return self


@dataclass(frozen=True)
class ExpertStatus:
    """One line of the list of experts; `reason` says what is missing where it is unavailable."""

    name: str
    kind: str
    tasks: tuple[str, ...]
    state: str
    reason: str
    weights: str
    memory_mib: float
    licence: str


class ExpertRegistry:
    """Experts by task, loaded when first asked for."""

    def __init__(self, config: ExpertsConfig, folder: Path) -> None:
        """Take a configuration; relative weights are looked up from `folder`."""
        self.config = config
        self._folder = folder
        self._loaded: dict[str, Expert] = {}

    @classmethod
    def from_file(cls, path: Path | None = None) -> ExpertRegistry:
        """Read a configuration file, by default the package's own. Raises ConfigError."""
        path = path or share('config/experts.yaml')
        try:
            content = yaml.safe_load(path.read_text(encoding='utf-8'))
            config = ExpertsConfig.model_validate(content)
        except OSError as error:
            raise ConfigError(f'{path} cannot be read: {error.strerror}') from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f'{path} is not YAML: {error}') from error
        except pydantic.ValidationError as error:
            raise ConfigError(f'{path} is not valid: {_reasons(error)}') from error
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

    def expert(self, task: str) -> Expert:
        """Return the loaded expert for a task.

        Raises as `name_for` does, and ExpertNotInstalledError where its code or weights are
        missing, ModelFileError where they are damaged.
        """
        name = self.name_for(task)
        if name not in self._loaded:
            expert = self._build(name)
            try:
                expert.load()
            except MissingExtraError as error:
                raise ExpertNotInstalledError(f'expert {name!r}: {error}') from error
            self._loaded[name] = expert
        return self._loaded[name]

    def unload(self, name: str) -> None:
        """Give back the memory of an expert; nothing to do where it is not loaded."""
        expert = self._loaded.pop(name, None)
        if expert is not None:
            expert.unload()

    def close(self) -> None:
        """Unload every expert."""
        for name in tuple(self._loaded):
            self.unload(name)

    def list(self) -> tuple[ExpertStatus, ...]:
        """Return all experts with their state: loaded, available or unavailable."""
        return tuple(self._status(name) for name in self.config.experts)

    def _status(self, name: str) -> ExpertStatus:
        entry = self.config.experts[name]
        state, reason = 'loaded', ''
        if name not in self._loaded:
            try:
                self._build(name)
                state = 'available'
            except (ExpertNotInstalledError, ConfigError, ModelFileError) as error:
                state, reason = 'unavailable', str(error)
        return ExpertStatus(
            name,
            entry.kind,
            tuple(task for task, bound in self.config.tasks.items() if bound == name),
            state,
            reason,
            str(self._weights(entry) or ''),
            entry.memory_mib,
            entry.licence,
        )

    def _weights(self, entry: ExpertEntry) -> Path | None:
        if entry.weights is None:
            return None
        return (self._folder / Path(entry.weights).expanduser()).resolve()

    def _build(self, name: str) -> Expert:
        entry = self.config.experts[name]
        weights = self._weights(entry)
        factory = _implementation(name, entry.implementation)
        if weights is not None and not weights.exists():
            raise ExpertNotInstalledError(
                f'expert {name!r} has no weights at {weights}: put them there or set another path '
                'in experts.yaml'
            )
        try:
            return factory(name=name, weights=weights, **entry.defaults)
        except TypeError as error:
            raise ConfigError(
                f'expert {name!r} does not take the defaults {entry.defaults}: {error}'
            ) from error


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


def _reasons(error: pydantic.ValidationError) -> str:
    return '; '.join(
        f'{".".join(map(str, one["loc"])) or "file"}: {one["msg"]}' for one in error.errors()
    )
