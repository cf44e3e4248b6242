"""A local web server with configurable faults."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import re
import threading
import time
from collections.abc import Iterator


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` under every path, with the headers of the Hugging Face hub.

    Attributes:
        content: Bytes of the file.
        faults: Faults of the next requests: a number of bytes after which the connection ends, or
            the status of an error.
        always: Fault of all other requests, None for none.
        requests: Requested range of each GET, None for the whole file.
        length: Content-Length of the file; None for the true one.
        recorded: The sha256 of the file according to the hub.
        pause: Seconds that each GET takes.
    """

    daemon_threads = True

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.recorded = hashlib.sha256(content).hexdigest()
        self.faults, self.always, self.requests = [], None, []
        self.length, self.pause = None, 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        if isinstance(self.server.always, str):
            self.send_error(int(self.server.always))
        else:
            self.head(200, len(self.server.content))

    def do_GET(self):
        server = self.server
        if self.path.startswith("/api/"):  # Requests of the hub's client itself.
            self.send_error(404)
            return
        asked = self.headers["Range"]
        server.requests.append(asked)
        time.sleep(server.pause)
        fault = server.faults.pop(0) if server.faults else server.always
        if isinstance(fault, str):
            self.send_error(int(fault))
            return
        size = len(server.content)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
        if start and start >= size:
            self.head(416, 0, f"bytes */{size}")
            return
        part = f"bytes {start}-{size - 1}/{size}" if start else None
        self.head(206 if start else 200, size - start, part)
        self.wfile.write(server.content[start : size if fault is None else start + fault])

    def head(self, status, length, part=None):
        self.send_response(status)
        said = self.server.length
        self.send_header("Content-Length", str(length) if said is None else said)
        if part:
            self.send_header("Content-Range", part)
        # The hub sends the commit and the sha256 of a large file.
        self.send_header("X-Repo-Commit", "c" * 40)
        self.send_header("ETag", f'"{self.server.recorded}"')
        self.end_headers()

    def log_message(self, *_):
        """Prints nothing."""


@contextlib.contextmanager
def running(server: http.server.HTTPServer) -> Iterator[http.server.HTTPServer]:
    """Yields a server that answers in a thread of its own."""
    with server:
        # The seconds until it notices that it has been shut down: half a one by default.
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@contextlib.contextmanager
def serving(content: bytes) -> Iterator[Server]:
    """Yields a running server."""
    with running(Server(content)) as server:
        yield server
