"""A real HTTP server on 127.0.0.1 whose answers are a script: one step for each completion."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Step = Callable[['Handler'], None]


class Handler(BaseHTTPRequestHandler):
    """Notes each request and plays the next step; the last one is repeated."""

    server: Server

    def do_GET(self) -> None:
        self.server.get_headers.append(dict(self.headers))
        entries = [{'id': name} for name in self.server.models]
        self.reply(self.server.get_status, json.dumps({'data': entries}))

    def do_POST(self) -> None:
        length = int(self.headers['Content-Length'])
        body = json.loads(self.rfile.read(length))
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers), body))
            number = min(len(self.server.requests), len(self.server.steps))
            step = self.server.steps[number - 1]
        step(self)

    def reply(self, status: int, body: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace('_', '-'), value)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def open_stream(self) -> None:
        self.send_response(200)
        self.send_header('Content-Type', 'text/event-stream')
        self.end_headers()

    def say(self, text: str, finish: str | None = None) -> None:
        choice = {'delta': {'content': text}, 'finish_reason': finish}
        self.wfile.write(b'data: ' + json.dumps({'choices': [choice]}).encode() + b'\n\n')
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """The script and what it saw; as a context it serves."""

    daemon_threads = True

    def __init__(self, *steps: Step, models: Sequence[str] = ('vlm',), port: int = 0) -> None:
        super().__init__(('127.0.0.1', port), Handler)
        self.steps = steps or (says('Fine.'),)
        self.models = tuple(models)
        self.get_status = 200
        self.lock = threading.Lock()
        self.requests: list[tuple[str, dict, dict]] = []
        self.get_headers: list[dict] = []
        self.scheme = 'http'

    def use_tls(self, certificate: Path, key: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.scheme = 'https'

    @property
    def url(self) -> str:
        return f'{self.scheme}://127.0.0.1:{self.server_address[1]}/v1'

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that leave are part of the script."""

    def __enter__(self) -> Server:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self.shutdown()
        self.server_close()


def says(*pieces: str, end: str = 'stop') -> Step:
    """A whole answer, streamed."""

    def step(handler: Handler) -> None:
        handler.open_stream()
        for piece in pieces:
            handler.say(piece)
        handler.say('', end)
        handler.wfile.write(b'data: [DONE]\n\n')

    return step


def fails(status: int, message: str = 'no', **headers: str) -> Step:
    """A refusal."""
    body = json.dumps({'error': {'message': message}})
    return lambda handler: handler.reply(status, body, **headers)


def breaks_off(*pieces: str) -> Step:
    """Some of an answer, then the connection ends."""

    def step(handler: Handler) -> None:
        handler.open_stream()
        for piece in pieces:
            handler.say(piece)

    return step


def sends(raw: bytes) -> Step:
    """Any bytes as a stream."""

    def step(handler: Handler) -> None:
        handler.open_stream()
        handler.wfile.write(raw)

    return step


class Waits:
    """Says something, then nothing until `released`; `left` is set when the client is gone."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces
        self.reached = threading.Event()
        self.released = threading.Event()
        self.left = threading.Event()

    def __call__(self, handler: Handler) -> None:
        handler.open_stream()
        for piece in self.pieces:
            handler.say(piece)
        self.reached.set()
        # A closed connection reads as the end of the request.
        handler.connection.settimeout(20)
        try:
            if handler.connection.recv(1) == b'':
                self.left.set()
        except OSError:
            self.left.set()
