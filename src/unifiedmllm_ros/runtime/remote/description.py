"""Where a remote model is and how to speak to it: a YAML or JSON file, checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.model.adapters.registry import ADAPTERS


class RemoteDescription(BaseModel):
    """One remote model. Relative file names count from the description's folder."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    kind: Literal['remote'] = Field(description='What is described: a model on a server.')
    url: str = Field(description='Base address of the API, such as http://10.0.0.5:8000/v1.')
    model: str = Field(default='', description='Model name there; empty for the only one served.')
    representation: str = Field(
        default='native',
        description='How it answers: native (unified representation), or its family: '
        f'{", ".join(name for name in ADAPTERS if name != "native")}.',
    )
    api_key_env: str = Field(default='', description='Environment variable with the API key.')
    api_key_file: str = Field(default='', description='File with the API key.')
    ca_file: str = Field(default='', description='Certificates (PEM) to trust instead of the own.')
    max_side: int = Field(
        default=1024, ge=32, le=8192, description='Larger images are shrunk to this side (pixels).'
    )
    jpeg_quality: int = Field(default=85, ge=1, le=100, description='JPEG quality of images sent.')
    temperature: float = Field(default=0.0, ge=0.0, le=2.0, description='Sampling temperature.')
    connect_timeout: float = Field(default=3.0, gt=0.0, le=600.0, description='Seconds to connect.')
    read_timeout: float = Field(
        default=20.0, gt=0.0, le=3600.0, description='Longest silence of the server in seconds.'
    )
    answer_timeout: float = Field(
        default=120.0, gt=0.0, le=3600.0, description='Longest time for one answer in seconds.'
    )
    retries: int = Field(
        default=2, ge=0, le=20, description='New attempts after 429, 5xx and connection errors.'
    )
    backoff: float = Field(
        default=0.3, ge=0.0, le=60.0, description='Longest first pause in seconds; it doubles.'
    )
    concurrency: int = Field(default=4, ge=1, le=1024, description='Most requests at a time.')
    guided: Literal['', 'llama.cpp', 'vllm'] = Field(
        default='', description='Server that is to hold a native answer to the grammar.'
    )
    extra: dict[str, Any] = Field(
        default_factory=dict, description='More fields of the request, as the server knows them.'
    )
    fallback: str = Field(
        default='', description='Local model (name or folder) that answers while the link is down.'
    )
    recheck: float = Field(
        default=5.0, gt=0.0, le=3600.0, description='Seconds between looks whether it is back.'
    )

    _folder: Path = PrivateAttr(default=Path())

    @field_validator('url')
    @classmethod
    def _plain_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if (
            parts.scheme not in ('http', 'https')
            or not parts.hostname
            or parts.query
            or parts.port == 0
        ):
            raise ValueError('give an address such as http://host:8000/v1')
        if parts.username or parts.password:
            raise ValueError('an address holds no credentials: use api_key_env or api_key_file')
        return value.rstrip('/')

    @field_validator('representation')
    @classmethod
    def _known_family(cls, value: str) -> str:
        if value not in ADAPTERS:
            raise ValueError(f'{value!r} is none of {", ".join(ADAPTERS)}')
        return value

    @model_validator(mode='after')
    def _fits_together(self) -> RemoteDescription:
        if self.api_key_env and self.api_key_file:
            raise ValueError('give api_key_env or api_key_file, not both')
        if self.guided and self.representation != 'native':
            raise ValueError('guided holds an answer to the grammar of representation: native')
        if self.fallback.endswith(('.yaml', '.yml', '.json')):
            raise ValueError('fallback is a model of this machine, not another description')
        return self

    def path(self, name: str) -> Path:
        """Return the path of a file that the description names."""
        return self._folder / Path(name).expanduser()

    def api_key(self) -> str:
        """Return the API key, '' where none is set up. Raises ConfigError without showing it."""
        if self.api_key_env:
            key = os.environ.get(self.api_key_env, '').strip()
            if not key:
                raise ConfigError(f'environment variable {self.api_key_env} holds no API key')
        elif self.api_key_file:
            key = self._key_in_file()
        else:
            return ''
        if not key.isascii() or not key.isprintable() or ' ' in key:
            raise ConfigError('the API key is no single word of ASCII characters: check its source')
        return key

    def _key_in_file(self) -> str:
        path = self.path(self.api_key_file)
        try:
            key = path.read_text(encoding='utf-8').strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f'API key file {path} cannot be read: {error}') from error
        if not key:
            raise ConfigError(f'API key file {path} is empty')
        return key


def read_description(path: Path) -> RemoteDescription:
    """Read a description (JSON is YAML, too). Raises ConfigError naming file, field and remedy."""
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
        description = RemoteDescription.model_validate(content)
    except OSError as error:
        raise ConfigError(f'{path} cannot be read: {error.strerror}') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f'{path} is not YAML: {error}') from error
    except pydantic.ValidationError as error:
        reasons = '; '.join(
            f'{".".join(map(str, one["loc"])) or "file"}: {one["msg"]}' for one in error.errors()
        )
        raise ConfigError(f'{path} is no model description: {reasons}') from error
    description._folder = path.parent
    return description
