"""A server that speaks as much of the Hugging Face hub's protocol as a download needs."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = 'c0ffee' * 6 + 'c0de'


class Hub:
    """One repository `someone/model` with files; what it was asked for; where it hesitates.

    hold: a file of which only the first half is sent until `go` is set. offered: what is listed,
    where that is not what is there.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.offered: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.hold = ''
        self.half_sent, self.go = threading.Event(), threading.Event()

    def tree(self) -> list[dict[str, object]]:
        """The listing: large files tell their SHA-256, as the hub's LFS files do."""
        found: list[dict[str, object]] = []
        for name, data in {**self.files, **self.offered}.items():
            entry: dict[str, object] = {'type': 'file', 'path': name, 'size': len(data)}
            entry['oid'] = hashlib.sha1(data).hexdigest()
            if len(data) > 1000:
                digest = hashlib.sha256(data).hexdigest()
                entry['lfs'] = {'oid': digest, 'size': len(data), 'pointerSize': 100}
            found.append(entry)
        return found


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append((self.command, path, self.headers.get('Range', '')))
            if re.fullmatch(r'/api/models/someone/model/revision/(main|v2)', path):
                self._json({'id': 'someone/model', 'sha': COMMIT, 'siblings': []})
            elif path == f'/api/models/someone/model/tree/{COMMIT}':
                self._json(hub.tree())
            elif path.startswith(f'/someone/model/resolve/{COMMIT}/'):
                self._file(path.split('/', 5)[5], body)
            else:
                self.send_response(404)
                self.send_header('X-Error-Code', 'RepoNotFound')
                self.send_header('Content-Length', '0')
                self.end_headers()

        def _json(self, content: object) -> None:
            data = json.dumps(content).encode()
            self.send_response(200)
            self.send_header('Content-Type', 'application/json')
            self.send_header('Content-Length', str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _file(self, name: str, body: bool) -> None:
            data = hub.files[name]
            start = int((re.match(r'bytes=(\d+)-', self.headers.get('Range', '')) or [0, 0])[1])
            self.send_response(206 if start else 200)
            self.send_header('X-Repo-Commit', COMMIT)
            self.send_header('ETag', f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header('Accept-Ranges', 'bytes')
            if start:
                self.send_header('Content-Range', f'bytes {start}-{len(data) - 1}/{len(data)}')
            self.send_header('Content-Length', str(len(data) - start))
            self.end_headers()
            if not body:
                return
            if name == hub.hold and not start:
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                hub.half_sent.set()
                hub.go.wait(60)
                self.close_connection = True
                return
            self.wfile.write(data[start:])

    return Handler


@contextmanager
def served(hub: Hub) -> Iterator[str]:
    """Serve a hub; gives its address, for HF_ENDPOINT."""
    server = ThreadingHTTPServer(('127.0.0.1', 0), _handler(hub))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.05})
    thread.start()
    try:
        yield f'http://127.0.0.1:{server.server_address[1]}'
    finally:
        hub.go.set()
        server.shutdown()
        server.server_close()
        thread.join()
