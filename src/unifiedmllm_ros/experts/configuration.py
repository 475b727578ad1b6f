"""The configuration of the experts, `config/experts.yaml`, as it is checked when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field

from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.experts.residency import Need
from unifiedmllm_ros.tasks import TASKS

ENTRY_POINTS = 'unifiedmllm_ros.experts'


class Source(BaseModel):
    """Where further files of an expert come from."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    repo: str = Field(min_length=1, description='repository on the Hugging Face hub')
    revision: str = Field(default='main', description='branch, tag or commit')
    files: tuple[str, ...] = Field(default=(), description='patterns of the files; empty: all')


class ExpertEntry(BaseModel):
    """One expert of the configuration file."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    implementation: str = Field(
        min_length=1,
        description=f'`module:Class`, or the name of an entry point of the group {ENTRY_POINTS}',
    )
    kind: str = Field(min_length=1, description='what it does, as the tasks name it')
    extra: str = Field(default='', description='extra of the package that brings its libraries')
    weights: str | None = Field(
        default=None, description='file or folder of the weights, relative to the configuration'
    )
    repo: str = Field(default='', description='repository of the weights on the Hugging Face hub')
    revision: str = Field(default='main', description='branch, tag or commit of the repository')
    files: tuple[str, ...] = Field(
        default=(), description='patterns of the files that are fetched; empty: all'
    )
    variant: str = Field(
        default='', description='variant of the weight files (fp16); an option of the expert too'
    )
    also: dict[str, Source] = Field(
        default_factory=dict,
        description='further repositories, by the folder, relative to weights, they are fetched to',
    )
    holds: tuple[str, ...] = Field(
        default=(),
        description='what the folder may hold: classes of model_index.json, or model types or '
        'architectures of config.json; empty: not checked',
    )
    memory_mib: float = Field(default=0.0, ge=0.0, description='memory it needs while loaded')
    offload_mib: float = Field(
        default=0.0, ge=0.0, description='memory it can do with, offloaded; 0: it needs all'
    )
    licence: str = Field(default='', description='licence of the weights')
    non_commercial: bool = Field(
        default=False, description='whether the licence forbids commercial use'
    )
    defaults: dict[str, Any] = Field(
        default_factory=dict, description='options of the implementation'
    )

    @pydantic.model_validator(mode='after')
    def _check_source(self) -> ExpertEntry:
        if self.repo and not self.weights:
            raise ValueError(f'repo {self.repo!r} needs weights: the folder that it is fetched to')
        if self.offload_mib > self.memory_mib:
            raise ValueError(
                f'offload_mib {self.offload_mib:g} is more than memory_mib {self.memory_mib:g}'
            )
        return self

    def parts(self, weights: Path) -> tuple[tuple[ExpertEntry, Path], ...]:
        """Return this entry and its folder, then one for each further repository and its folder."""
        further = (
            (
                self.model_copy(update={**source.model_dump(), 'holds': (), 'variant': ''}),
                (weights / folder).resolve(),
            )
            for folder, source in self.also.items()
        )
        return (self, weights), *further

    @property
    def need(self) -> Need:
        """What it takes, and of which device."""
        return Need(str(self.defaults.get('device', 'cpu')), self.memory_mib, self.offload_mib)


class ExpertsConfig(BaseModel):
    """The whole configuration file."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    experts: dict[str, ExpertEntry] = Field(description='experts by name')
    tasks: dict[str, str] = Field(description='the name of the expert for each task')
    memory_mib: dict[str, float] = Field(
        default_factory=dict,
        description='budget of all loaded experts by device (cpu, cuda:0); default: three quarters '
        "of the machine's memory, nine tenths of a GPU's",
    )

    @classmethod
    def from_file(cls, path: Path) -> ExpertsConfig:
        """Read a configuration file. Raises ConfigError naming the file, and the field."""
        try:
            return cls.model_validate(yaml.safe_load(path.read_text(encoding='utf-8')))
        except OSError as error:
            raise ConfigError(f'{path} cannot be read: {error.strerror}') from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f'{path} is not YAML: {error}') from error
        except pydantic.ValidationError as error:
            raise ConfigError(f'{path} is not valid: {_reasons(error)}') from error

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


def _reasons(error: pydantic.ValidationError) -> str:
    return '; '.join(
        f'{".".join(map(str, one["loc"])) or "file"}: {one["msg"]}' for one in error.errors()
    )
