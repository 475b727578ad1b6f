"""One HTTP request in a thread of its own, so that its caller can leave at any time."""

from __future__ import annotations

import contextlib
import http.client
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from unifiedmllm_ros.cancellation import Cancel, check
from unifiedmllm_ros.errors import ModelError

MAX_BYTES = 16 * 1024 * 1024
MAX_LINE = 1024 * 1024
_TICK = 0.02
_TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})


class RemoteError(ModelError):
    """A server that cannot be reached or does not do what it should.

    status: of HTTP, None where there was no answer. temporary: another attempt may succeed.
    wait: seconds that the server asks to wait before it.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        temporary: bool = False,
        wait: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.temporary = temporary
        self.wait = wait


@dataclass(frozen=True)
class Call:
    """What to send and how long to wait; `headers` may hold a key and are not shown."""

    url: str
    body: bytes | None
    headers: dict[str, str] = field(repr=False)
    connect_timeout: float
    read_timeout: float
    answer_timeout: float
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True)
class _Head:
    status: int
    kind: str
    retry_after: str


class Exchange:
    """Runs a call; the status comes first, then the body line by line."""

    def __init__(self, call: Call) -> None:
        """Start it."""
        self._call = call
        self._items: queue.Queue[_Head | bytes | RemoteError | None] = queue.Queue()
        self._socket: socket.socket | None = None
        self._left = threading.Event()
        self._deadline = time.monotonic() + call.answer_timeout
        self.content_type = ''
        threading.Thread(target=self._run, name='remote-model', daemon=True).start()

    def lines(self, cancel: Cancel) -> Iterator[bytes]:
        """Yield the lines of a successful answer, at least one object for each time it is asked.

        Raises RemoteError for anything else, Cancelled within 20 ms of a cancel; then, and when
        the iterator is closed, so is the connection.
        """
        try:
            head = self._next(cancel)
            if isinstance(head, _Head):
                self.content_type = head.kind
                if head.status != 200:
                    raise self._refused(head, cancel)
                yield from self._body(cancel)
        finally:
            self.leave()

    def leave(self) -> None:
        """Close the connection, whatever it is doing."""
        self._left.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _body(self, cancel: Cancel) -> Iterator[bytes]:
        while isinstance(line := self._next(cancel), bytes):
            yield line

    def _next(self, cancel: Cancel) -> _Head | bytes | None:
        while True:
            check(cancel, 'the question')
            try:
                item = self._items.get(timeout=_TICK)
            except queue.Empty:
                if time.monotonic() > self._deadline:
                    raise RemoteError(
                        f'{self._call.url} took longer than {self._call.answer_timeout:g} s: '
                        'raise answer_timeout or lower max_tokens'
                    ) from None
                continue
            if isinstance(item, RemoteError):
                raise item
            return item

    def _refused(self, head: _Head, cancel: Cancel) -> RemoteError:
        body = b''.join(self._body(cancel))[:4096].decode('utf-8', 'replace')
        wait = float(head.retry_after) if head.retry_after.isdecimal() else None
        return RemoteError(body, status=head.status, temporary=head.status in _TEMPORARY, wait=wait)

    def _run(self) -> None:
        try:
            self._converse()
            self._items.put(None)
        except TimeoutError:
            timeouts = f'{self._call.connect_timeout:g} s, {self._call.read_timeout:g} s'
            message = f'{self._call.url} is silent (connect_timeout, read_timeout: {timeouts})'
            self._items.put(RemoteError(message, temporary=True))
        except ssl.SSLError as error:
            reason = getattr(error, 'verify_message', '') or error.reason or str(error)
            self._items.put(RemoteError(f'{self._call.url}: TLS failed ({reason}): check ca_file'))
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, 'strerror', None) or str(error) or type(error).__name__
            message = f'{self._call.url} cannot be reached: {reason}'
            self._items.put(RemoteError(message, temporary=True))

    def _converse(self) -> None:
        connection = self._connection()
        try:
            connection.connect()
            self._socket = connection.sock
            if self._left.is_set():
                return
            connection.sock.settimeout(self._call.read_timeout)
            path = urlsplit(self._call.url).path
            method = 'GET' if self._call.body is None else 'POST'
            # A server that refuses a body while it comes has already said why.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, self._call.body, self._call.headers)
            with connection.getresponse() as response:
                self._pass_on(response)
        finally:
            connection.close()

    def _pass_on(self, response: http.client.HTTPResponse) -> None:
        kind = response.getheader('Content-Type', '')
        self._items.put(_Head(response.status, kind, response.getheader('Retry-After', '')))
        size = 0
        while not self._left.is_set() and (line := response.readline(MAX_LINE)):
            size += len(line)
            if size > MAX_BYTES:
                raise http.client.HTTPException(f'it sends more than {MAX_BYTES >> 20} MiB')
            self._items.put(line)

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self._call.url)
        host, timeout = parts.hostname or '', self._call.connect_timeout
        if parts.scheme == 'https':
            return http.client.HTTPSConnection(
                host, parts.port, timeout=timeout, context=self._call.tls
            )
        return http.client.HTTPConnection(host, parts.port, timeout=timeout)
