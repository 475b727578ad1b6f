"""A client of the OpenAI-compatible API: streamed completions, discovery, retries, health."""

from __future__ import annotations

import json
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from unifiedmllm_ros.cancellation import Cancel, check, never
from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.runtime.remote.description import RemoteDescription
from unifiedmllm_ros.runtime.remote.exchange import Call, Exchange, RemoteError
from unifiedmllm_ros.runtime.remote.turnstile import Turnstile

MAX_PAUSE = 30.0
_TICK = 0.02


@dataclass(frozen=True)
class Delta:
    """The next piece of text; `finish` is the server's reason to end, on the last one."""

    text: str
    finish: str = ''


@dataclass(frozen=True)
class Health:
    """How the server has been: state is unknown, ok or failing; counts are since the start."""

    state: str = 'unknown'
    last_error: str = ''
    requests: int = 0
    retries: int = 0
    failures_in_a_row: int = 0


class Client:
    """Speaks to one server; any number of threads may use it.

    jitter: gives the part of the longest pause that is waited, in [0, 1).
    """

    def __init__(
        self, description: RemoteDescription, jitter: Callable[[], float] = random.random
    ) -> None:
        """Prepare; nothing is sent. Raises ConfigError where ca_file cannot be used."""
        self.description = description
        self._jitter = jitter
        self._turnstile = Turnstile(description.concurrency)
        self._lock = threading.Lock()
        self._health = Health()
        self._tls = _tls(description)

    @property
    def health(self) -> Health:
        """A snapshot."""
        return self._health

    def models(self, cancel: Cancel = never) -> tuple[str, ...]:
        """Return the names of the models served. Raises RemoteError; no retries."""
        with self._noted():
            body = b''.join(self._exchange('/models', None, cancel))
            try:
                return tuple(str(entry['id']) for entry in json.loads(body)['data'])
            except (ValueError, TypeError, KeyError) as error:
                message = f'{self.description.url}/models gives no list of models: check url'
                raise RemoteError(message) from error

    def complete(
        self,
        request: dict[str, Any],
        cancel: Cancel,
        on_usage: Callable[[dict[str, Any]], None] | None = None,
    ) -> Iterator[Delta]:
        """Yield an answer piece by piece.

        on_usage: gets what the server says of the tokens used, where it does (`stream_options`).
        Tried again after 429, 5xx and connection errors until something has been yielded. Raises
        RemoteError, ConfigError (no key), Cancelled.
        """
        body = json.dumps({**request, 'stream': True}).encode()
        with self._turnstile.place(cancel):
            for attempt in range(self.description.retries + 1):
                started = False
                try:
                    with self._noted():
                        for delta in self._deltas(body, cancel, on_usage):
                            started = True
                            yield delta
                    return
                except RemoteError as error:
                    if started or not error.temporary or attempt == self.description.retries:
                        raise
                    self._note(retries=1)
                    self._pause(attempt, error.wait, cancel)

    def _deltas(
        self,
        body: bytes,
        cancel: Cancel,
        on_usage: Callable[[dict[str, Any]], None] | None,
    ) -> Iterator[Delta]:
        finished = False
        for event in self._events(body, cancel):
            if isinstance(event.get('error'), dict | str):
                message = self._hidden(_error_text(event))
                raise RemoteError(f'{self.description.url} reports: {message}')
            if on_usage is not None and isinstance(event.get('usage'), dict):
                on_usage(event['usage'])
            delta = _delta(event)
            finished = finished or bool(delta.finish)
            if delta.text or delta.finish:
                yield delta
        if not finished:
            raise RemoteError(
                f'{self.description.url} stopped in the middle of its answer', temporary=True
            )

    def _events(self, body: bytes, cancel: Cancel) -> Iterator[dict[str, Any]]:
        whole: list[bytes] = []
        for line in self._exchange('/chat/completions', body, cancel):
            stripped = line.strip()
            if stripped == b'data: [DONE]':
                return
            if stripped.startswith(b'data:'):
                yield self._json(stripped[5:])
            elif stripped.startswith((b'{', b'}')) or whole:
                whole.append(line)
        if whole:
            # A server that does not stream answers with one object.
            yield self._json(b''.join(whole))

    def _json(self, text: bytes) -> dict[str, Any]:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            excerpt = self._hidden(text[:80].decode('utf-8', 'replace'))
            raise RemoteError(f'{self.description.url} sent no JSON object: {excerpt!r}')
        return value

    def _exchange(self, path: str, body: bytes | None, cancel: Cancel) -> Iterator[bytes]:
        described = self.description
        headers = {'Content-Type': 'application/json', 'Accept': 'text/event-stream, */*'}
        if key := described.api_key():
            headers['Authorization'] = f'Bearer {key}'
        call = Call(
            described.url + path,
            body,
            headers,
            described.connect_timeout,
            described.read_timeout,
            described.answer_timeout,
            self._tls,
        )
        try:
            yield from Exchange(call).lines(cancel)
        except RemoteError as error:
            if error.status is None:
                raise
            raise self._explained(error) from None

    def _explained(self, error: RemoteError) -> RemoteError:
        said = self._hidden(_error_text(_lenient(str(error))))
        remedy = {
            400: 'the request does not suit this model',
            401: 'it refuses the API key: check api_key_env or api_key_file',
            403: 'it refuses the API key: check api_key_env or api_key_file',
            404: 'check url and model (unifiedmllm models check)',
            413: 'the image is larger than it takes: lower max_side or jpeg_quality',
            429: 'it has too much to do: lower concurrency or the rate of questions',
        }.get(error.status or 0, 'see its log')
        message = f'{self.description.url} answered {error.status} ({said}): {remedy}'
        return RemoteError(message, status=error.status, temporary=error.temporary, wait=error.wait)

    def _hidden(self, text: str) -> str:
        """Some servers repeat the key in their error."""
        key = self.description.api_key()
        return text.replace(key, '***') if key else text

    @contextmanager
    def _noted(self) -> Iterator[None]:
        self._note(requests=1)
        try:
            yield
        except (RemoteError, ConfigError) as error:
            self._note(error=str(error))
            raise
        self._note(ok=True)

    def _note(
        self, *, requests: int = 0, retries: int = 0, error: str = '', ok: bool = False
    ) -> None:
        with self._lock:
            now = self._health
            now = replace(now, requests=now.requests + requests, retries=now.retries + retries)
            if ok:
                now = replace(now, state='ok', failures_in_a_row=0)
            if error:
                row = now.failures_in_a_row + 1
                now = replace(now, state='failing', last_error=error, failures_in_a_row=row)
            self._health = now

    def _pause(self, attempt: int, wait: float | None, cancel: Cancel) -> None:
        longest = self.description.backoff * 2**attempt
        seconds = min(MAX_PAUSE, longest * self._jitter() if wait is None else wait)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            check(cancel, 'the question')
            time.sleep(min(_TICK, left))


def _tls(description: RemoteDescription) -> ssl.SSLContext | None:
    if not description.url.startswith('https:'):
        return None
    path = description.path(description.ca_file) if description.ca_file else None
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as error:
        raise ConfigError(f'ca_file {path} cannot be used: {error}') from error


def _delta(event: dict[str, Any]) -> Delta:
    choices = event.get('choices')
    choice = choices[0] if isinstance(choices, list) and choices else {}
    if not isinstance(choice, dict):
        return Delta('')
    message = choice.get('delta') or choice.get('message') or {}
    text = message.get('content') if isinstance(message, dict) else ''
    finish = choice.get('finish_reason')
    # JSON can hold halves of surrogate pairs, which no text may.
    valid = text.encode('utf-8', 'replace').decode() if isinstance(text, str) else ''
    return Delta(valid, finish if isinstance(finish, str) else '')


def _lenient(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {'error': text}


def _error_text(value: dict[str, Any]) -> str:
    error = value.get('error', value.get('message', value.get('detail', '')))
    if isinstance(error, dict):
        error = error.get('message', '')
    return ' '.join(str(error).split())[:200] or 'no reason given'
